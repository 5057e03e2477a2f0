/* The part of ONNX Runtime's C API that an exported example uses, at its places in the table of
 * functions: the layout is fixed for all versions, new functions are added at its end.
 * ONNX Runtime's own header, which no Python package brings, says the same of these.
 */
#ifndef ONNXRUNTIME_C_API_H
#define ONNXRUNTIME_C_API_H

#include <stddef.h>
#include <stdint.h>

#define ORT_API_VERSION 14

typedef struct OrtStatus OrtStatus;
typedef struct OrtEnv OrtEnv;
typedef struct OrtSession OrtSession;
typedef struct OrtSessionOptions OrtSessionOptions;
typedef struct OrtRunOptions OrtRunOptions;
typedef struct OrtMemoryInfo OrtMemoryInfo;
typedef struct OrtValue OrtValue;

typedef enum { ORT_LOGGING_LEVEL_WARNING = 2 } OrtLoggingLevel;
typedef enum { OrtArenaAllocator = 1 } OrtAllocatorType;
typedef enum { OrtMemTypeDefault = 0 } OrtMemType;
typedef enum { ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT = 1 } ONNXTensorElementDataType;

typedef void (*OrtOther)(void);

#define MUST_USE __attribute__((warn_unused_result))

typedef struct OrtApi {
    OrtOther to_1[2];
    const char *(*GetErrorMessage)(const OrtStatus *status); /* 2 */
    OrtStatus *(*CreateEnv)(OrtLoggingLevel level, const char *name, OrtEnv **out) MUST_USE;
    OrtOther to_6[3];
    OrtStatus *(*CreateSession)(const OrtEnv *env, const char *path,
                                const OrtSessionOptions *options, OrtSession **out)
        MUST_USE; /* 7 */
    OrtOther to_8[1];
    OrtStatus *(*Run)(OrtSession *session, const OrtRunOptions *options,
                      const char *const *input_names, const OrtValue *const *inputs,
                      size_t input_count, const char *const *output_names, size_t output_count,
                      OrtValue **outputs) MUST_USE; /* 9 */
    OrtStatus *(*CreateSessionOptions)(OrtSessionOptions **out) MUST_USE;
    OrtOther to_23[13];
    OrtStatus *(*SetIntraOpNumThreads)(OrtSessionOptions *options, int threads) MUST_USE; /* 24 */
    OrtOther to_48[24];
    OrtStatus *(*CreateTensorWithDataAsOrtValue)(const OrtMemoryInfo *info, void *data,
                                                 size_t size_bytes, const int64_t *shape,
                                                 size_t dimensions,
                                                 ONNXTensorElementDataType type, OrtValue **out)
        MUST_USE; /* 49 */
    OrtOther to_50[1];
    OrtStatus *(*GetTensorMutableData)(OrtValue *value, void **out) MUST_USE; /* 51 */
    OrtOther to_68[17];
    OrtStatus *(*CreateCpuMemoryInfo)(OrtAllocatorType type, OrtMemType memory,
                                      OrtMemoryInfo **out) MUST_USE; /* 69 */
    OrtOther to_91[22];
    void (*ReleaseEnv)(OrtEnv *); /* 92 */
    void (*ReleaseStatus)(OrtStatus *);
    void (*ReleaseMemoryInfo)(OrtMemoryInfo *);
    void (*ReleaseSession)(OrtSession *);
    void (*ReleaseValue)(OrtValue *);
    OrtOther to_99[3];
    void (*ReleaseSessionOptions)(OrtSessionOptions *); /* 100 */
} OrtApi;

typedef struct OrtApiBase {
    const OrtApi *(*GetApi)(uint32_t version);
    const char *(*GetVersionString)(void);
} OrtApiBase;

const OrtApiBase *OrtGetApiBase(void);

#endif
