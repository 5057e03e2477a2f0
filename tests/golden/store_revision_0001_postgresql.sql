SET statement_timeout = 0;
SET lock_timeout = 0;
SET idle_in_transaction_session_timeout = 0;
SET client_encoding = 'UTF8';
SET standard_conforming_strings = on;
SELECT pg_catalog.set_config('search_path', '', false);
SET check_function_bodies = false;
SET xmloption = content;
SET client_min_messages = warning;
SET row_security = off;
SET default_tablespace = '';
SET default_table_access_method = heap;
CREATE TABLE public.boardfront_store_version (
    version_num character varying(32) NOT NULL
);
CREATE TABLE public.measurements (
    id bigint NOT NULL,
    created_unix_s double precision NOT NULL,
    key_digest character varying(64) NOT NULL,
    key json NOT NULL,
    structure_hash character varying(64) NOT NULL,
    task_kind character varying(32) NOT NULL,
    batch integer NOT NULL,
    fingerprint character varying(128) NOT NULL,
    backend character varying(64) NOT NULL,
    backend_version character varying(128) NOT NULL,
    measurement_protocol_version integer NOT NULL,
    origin character varying(32) NOT NULL,
    device_id character varying(128) NOT NULL,
    device_name character varying(128) NOT NULL,
    agent_version character varying(64) NOT NULL,
    job_id character varying(128) NOT NULL,
    subject_id character varying(128) NOT NULL,
    purpose character varying(32) NOT NULL,
    verdict character varying(32),
    median_s double precision,
    interval_low_s double precision,
    interval_high_s double precision,
    relative_half_width double precision,
    min_duration_s double precision,
    failure_kind character varying(32),
    failure_message text,
    outcome json NOT NULL
);
CREATE SEQUENCE public.measurements_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE public.measurements_id_seq OWNED BY public.measurements.id;
CREATE TABLE public.quarantines (
    id bigint NOT NULL,
    measurement_id bigint NOT NULL,
    created_unix_s double precision NOT NULL,
    reason text NOT NULL
);
CREATE SEQUENCE public.quarantines_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE public.quarantines_id_seq OWNED BY public.quarantines.id;
ALTER TABLE ONLY public.measurements ALTER COLUMN id SET DEFAULT nextval('public.measurements_id_seq'::regclass);
ALTER TABLE ONLY public.quarantines ALTER COLUMN id SET DEFAULT nextval('public.quarantines_id_seq'::regclass);
INSERT INTO public.boardfront_store_version (version_num) VALUES ('0001');
INSERT INTO public.measurements (id, created_unix_s, key_digest, key, structure_hash, task_kind, batch, fingerprint, backend, backend_version, measurement_protocol_version, origin, device_id, device_name, agent_version, job_id, subject_id, purpose, verdict, median_s, interval_low_s, interval_high_s, relative_half_width, min_duration_s, failure_kind, failure_message, outcome) VALUES (1, 1700000000, '03396cf5360740055f5b40fcaacca3d729189d62e7e126c908965bdf71225182', '{"backend": "onnxruntime", "backend_version": "1.18", "fingerprint": "ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff", "input_shapes": [], "measurement_protocol_version": 1, "options": [["threads", "1"]], "origin": "programmed", "structure_hash": "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "task": {"batch": 1, "cache": "warm", "classes": null, "frozen_stages": 0, "kind": "inference", "resolution": null}, "tuning": ""}', 'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa', 'inference', 1, 'ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff', 'onnxruntime', '1.18', 1, 'programmed', 'device-1', 'bench', '0.1.0', 'job-1', 's0', 'candidate', 'ok', 0.002, 0.00198, 0.00202, 0.010000000000000026, 2, NULL, NULL, '{"body": {"artifact_bytes": 1234, "artifact_sha256": "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb", "circumstances": {"frequency_after_hz": null, "frequency_before_hz": null, "governor": "performance", "load_average": null, "other_cpu_fraction": null, "steal_fraction": null, "temperature_after_c": null, "temperature_before_c": 41.5, "worker_peak_rss_bytes": null}, "compile_s": 0.0, "evidence": ["six windows"], "first_run_s": 0.01, "load_s": 0.1, "origin": "programmed", "precision": {"min_duration_s": 2.0, "min_windows": 6, "relative_half_width": 0.01}, "run_s": 2.5, "statistics": {"autocorrelation": null, "cv": 0.0, "high_s": 0.00202, "low_s": 0.00198, "mad_s": 0.0, "max_s": 0.002, "mean_s": 0.002, "median_s": 0.002, "merged": 1, "min_s": 0.002, "outliers": 0, "p90_s": 0.002, "p99_s": 0.002, "samples": 4, "windows": 2}, "subject_id": "s0", "target": {"backend": "onnxruntime", "backend_version": "1.18", "fingerprint": "ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff", "options": {"threads": "1"}, "tuning": ""}, "verdict": "ok", "warm_up_s": [0.01, 0.002], "windows": [{"loops": 3, "samples_s": [0.002, 0.002], "start_s": 0.0}, {"loops": 3, "samples_s": [0.002, 0.002], "start_s": 1.0}]}, "kind": "result", "v": 1}');
INSERT INTO public.measurements (id, created_unix_s, key_digest, key, structure_hash, task_kind, batch, fingerprint, backend, backend_version, measurement_protocol_version, origin, device_id, device_name, agent_version, job_id, subject_id, purpose, verdict, median_s, interval_low_s, interval_high_s, relative_half_width, min_duration_s, failure_kind, failure_message, outcome) VALUES (2, 1700000000, '03396cf5360740055f5b40fcaacca3d729189d62e7e126c908965bdf71225182', '{"backend": "onnxruntime", "backend_version": "1.18", "fingerprint": "ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff", "input_shapes": [], "measurement_protocol_version": 1, "options": [["threads", "1"]], "origin": "programmed", "structure_hash": "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "task": {"batch": 1, "cache": "warm", "classes": null, "frozen_stages": 0, "kind": "inference", "resolution": null}, "tuning": ""}', 'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa', 'inference', 1, 'ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff', 'onnxruntime', '1.18', 1, 'programmed', 'device-1', 'bench', '0.1.0', 'job-2', 's0', 'candidate', 'ok', 0.002, 0.00198, 0.00202, 0.010000000000000026, 2, NULL, NULL, '{"body": {"artifact_bytes": 1234, "artifact_sha256": "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb", "circumstances": {"frequency_after_hz": null, "frequency_before_hz": null, "governor": "performance", "load_average": null, "other_cpu_fraction": null, "steal_fraction": null, "temperature_after_c": null, "temperature_before_c": 41.5, "worker_peak_rss_bytes": null}, "compile_s": 0.0, "evidence": ["six windows"], "first_run_s": 0.01, "load_s": 0.1, "origin": "programmed", "precision": {"min_duration_s": 2.0, "min_windows": 6, "relative_half_width": 0.01}, "run_s": 2.5, "statistics": {"autocorrelation": null, "cv": 0.0, "high_s": 0.00202, "low_s": 0.00198, "mad_s": 0.0, "max_s": 0.002, "mean_s": 0.002, "median_s": 0.002, "merged": 1, "min_s": 0.002, "outliers": 0, "p90_s": 0.002, "p99_s": 0.002, "samples": 4, "windows": 2}, "subject_id": "s0", "target": {"backend": "onnxruntime", "backend_version": "1.18", "fingerprint": "ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff", "options": {"threads": "1"}, "tuning": ""}, "verdict": "ok", "warm_up_s": [0.01, 0.002], "windows": [{"loops": 3, "samples_s": [0.002, 0.002], "start_s": 0.0}, {"loops": 3, "samples_s": [0.002, 0.002], "start_s": 1.0}]}, "kind": "result", "v": 1}');
INSERT INTO public.measurements (id, created_unix_s, key_digest, key, structure_hash, task_kind, batch, fingerprint, backend, backend_version, measurement_protocol_version, origin, device_id, device_name, agent_version, job_id, subject_id, purpose, verdict, median_s, interval_low_s, interval_high_s, relative_half_width, min_duration_s, failure_kind, failure_message, outcome) VALUES (3, 1700000000, '03396cf5360740055f5b40fcaacca3d729189d62e7e126c908965bdf71225182', '{"backend": "onnxruntime", "backend_version": "1.18", "fingerprint": "ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff", "input_shapes": [], "measurement_protocol_version": 1, "options": [["threads", "1"]], "origin": "programmed", "structure_hash": "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "task": {"batch": 1, "cache": "warm", "classes": null, "frozen_stages": 0, "kind": "inference", "resolution": null}, "tuning": ""}', 'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa', 'inference', 1, 'ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff', 'onnxruntime', '1.18', 1, 'programmed', 'device-1', 'bench', '0.1.0', 'job-3', 's0', 'candidate', NULL, NULL, NULL, NULL, NULL, NULL, 'crashed', 'signal 11', '{"body": {"detail": "last\nlines", "kind": "crashed", "message": "signal 11"}, "kind": "failure", "v": 1}');
INSERT INTO public.quarantines (id, measurement_id, created_unix_s, reason) VALUES (1, 2, 5, 'the sentinel drifted by 4 %');
SELECT pg_catalog.setval('public.measurements_id_seq', 3, true);
SELECT pg_catalog.setval('public.quarantines_id_seq', 1, true);
ALTER TABLE ONLY public.boardfront_store_version
    ADD CONSTRAINT boardfront_store_version_pkc PRIMARY KEY (version_num);
ALTER TABLE ONLY public.measurements
    ADD CONSTRAINT measurements_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.quarantines
    ADD CONSTRAINT quarantines_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.measurements
    ADD CONSTRAINT uq_measurements_job_id_subject_id UNIQUE (job_id, subject_id);
CREATE INDEX ix_measurements_key_digest ON public.measurements USING btree (key_digest);
CREATE INDEX ix_quarantines_measurement_id ON public.quarantines USING btree (measurement_id);
ALTER TABLE ONLY public.quarantines
    ADD CONSTRAINT quarantines_measurement_id_fkey FOREIGN KEY (measurement_id) REFERENCES public.measurements(id);
