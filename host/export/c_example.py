"""A C program that runs the exported network with ONNX Runtime, with its own numbers in it."""

from __future__ import annotations

import math
from string import Template
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from boardfront.host.export.facts import Facts

NAME = "example.c"

_PROGRAM = Template(
    """\
/* Runs $model on one batch of images with ONNX Runtime's C API.
 *
 *   cc -std=c99 -O2 $name -o example -I ORT/include -L ORT/lib -lonnxruntime
 *   ./example $model < images.raw
 *
 * images.raw: $bytes bytes, one unsigned byte for each value, in the order
 * $order.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "onnxruntime_c_api.h"

enum { BATCH = $batch, CHANNELS = $channels, HEIGHT = $height, WIDTH = $width };
enum { CLASSES = $classes };
enum { PIXELS = HEIGHT * WIDTH, VALUES = BATCH * CHANNELS * PIXELS };

static const float MEAN[CHANNELS] = {$mean};
static const float STD[CHANNELS] = {$std};

static const OrtApi *ort;

static void check(OrtStatus *status) {
    if (status == NULL) return;
    fprintf(stderr, "%s\\n", ort->GetErrorMessage(status));
    ort->ReleaseStatus(status);
    exit(1);
}

/* Bytes from 0 to 255 to what the network was trained on. */
static void normalise(const uint8_t *bytes, float *images) {
    for (int i = 0; i < VALUES; i++) {
        int channel = i / PIXELS % CHANNELS;
        images[i] = ((float)bytes[i] / 255.0f - MEAN[channel]) / STD[channel];
    }
}

int main(int count, char **words) {
    static uint8_t bytes[VALUES];
    static float images[VALUES];
    const int64_t shape[4] = {BATCH, CHANNELS, HEIGHT, WIDTH};
    const char *inputs[1] = {"$input"};
    const char *outputs[1] = {"$output"};
    OrtEnv *env = NULL;
    OrtSessionOptions *options = NULL;
    OrtSession *session = NULL;
    OrtMemoryInfo *memory = NULL;
    OrtValue *input = NULL;
    OrtValue *output = NULL;
    float *logits = NULL;

    if (fread(bytes, 1, VALUES, stdin) != VALUES) {
        fprintf(stderr, "expected %d bytes on standard input\\n", VALUES);
        return 1;
    }
    normalise(bytes, images);

    ort = OrtGetApiBase()->GetApi(ORT_API_VERSION);
    if (ort == NULL) {
        fprintf(stderr, "the library is older than the header\\n");
        return 1;
    }
    check(ort->CreateEnv(ORT_LOGGING_LEVEL_WARNING, "example", &env));
    check(ort->CreateSessionOptions(&options));
    check(ort->SetIntraOpNumThreads(options, $threads));
    check(ort->CreateSession(env, count > 1 ? words[1] : "$model", options, &session));
    check(ort->CreateCpuMemoryInfo(OrtArenaAllocator, OrtMemTypeDefault, &memory));
    check(ort->CreateTensorWithDataAsOrtValue(memory, images, sizeof images, shape, 4,
                                              ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT, &input));
    check(ort->Run(session, NULL, inputs, (const OrtValue *const *)&input, 1, outputs, 1,
                   &output));
    check(ort->GetTensorMutableData(output, (void **)&logits));

    for (int image = 0; image < BATCH; image++) {
        const float *scores = logits + image * CLASSES;
        int best = 0;
        for (int i = 0; i < CLASSES; i++) {
            if (scores[i] > scores[best]) best = i;
            printf("%.7g ", scores[i]);
        }
        printf("class %d\\n", best);
    }

    ort->ReleaseValue(output);
    ort->ReleaseValue(input);
    ort->ReleaseMemoryInfo(memory);
    ort->ReleaseSession(session);
    ort->ReleaseSessionOptions(options);
    ort->ReleaseEnv(env);
    return 0;
}
"""
)


def program(facts: Facts, model: str) -> str:
    """Return the program.

    Args:
        facts: Of the network.
        model: Name of its ONNX file.
    """
    batch, channels, height, width = facts.source.shape
    return _PROGRAM.substitute(
        model=model,
        name=NAME,
        bytes=math.prod(facts.source.shape),
        order="image, channel, row, column",
        batch=batch,
        channels=channels,
        height=height,
        width=width,
        classes=facts.classes,
        mean=_floats(facts.mean),
        std=_floats(facts.std),
        input=facts.source.name,
        output=facts.sink.name,
        threads=_threads(facts),
    )


def core(facts: Facts, model: str) -> str:
    """Return the lines of the program that handle an image."""
    lines = program(facts, model).splitlines()
    normalise = lines.index("static void normalise(const uint8_t *bytes, float *images) {")
    call = next(i for i, line in enumerate(lines) if "CreateTensorWithDataAsOrtValue" in line)
    end = next(i for i, line in enumerate(lines) if "GetTensorMutableData" in line)
    shape = next(i for i, line in enumerate(lines) if line.startswith("    const int64_t shape"))
    parts = [
        lines[normalise : lines.index("}", normalise) + 1],
        [""],
        [line[4:] for line in lines[shape : shape + 3]],
        [""],
        [line[4:] for line in lines[call : end + 1]],
    ]
    return "".join(f"{line}\n" for part in parts for line in part)


def _threads(facts: Facts) -> int:
    """Return the threads that the time was promised for."""
    asked = facts.promise.options.get("threads", "")
    return int(asked) if asked.isdecimal() else 1


def _floats(values: Sequence[float]) -> str:
    return ", ".join(
        f"{value:.9g}f" if "." in f"{value:.9g}" else f"{value:.9g}.0f" for value in values
    )
