-- A run store of the first migration with runs under way, for test_upgrade.py: dumped with pg_dump, never changed.
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
CREATE FUNCTION public.wfe_expect(actual bigint, expected bigint, what text) RETURNS void
    LANGUAGE plpgsql
    AS $$
BEGIN
    IF actual <> expected THEN
        RAISE EXCEPTION 'expected % %, found %', expected, what, actual USING ERRCODE = 'WF001';
    END IF;
END $$;
SET default_tablespace = '';
SET default_table_access_method = heap;
CREATE TABLE public.alembic_version (
    version_num character varying(32) NOT NULL
);
CREATE TABLE public.api_keys (
    id text NOT NULL,
    owner_id uuid NOT NULL,
    principal_id uuid NOT NULL,
    name text DEFAULT ''::text NOT NULL,
    hash bytea NOT NULL,
    roles text[],
    created_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    expires_at timestamp with time zone,
    revoked_at timestamp with time zone,
    last_used_at timestamp with time zone,
    replaces text,
    CONSTRAINT api_keys_id_check CHECK ((length(id) = 8))
);
CREATE TABLE public.dispatch (
    run_id uuid NOT NULL,
    no integer NOT NULL,
    owner_id uuid NOT NULL,
    path text NOT NULL,
    iteration text DEFAULT ''::text NOT NULL,
    visit integer DEFAULT 1 NOT NULL,
    epoch integer DEFAULT 1 NOT NULL,
    kind text NOT NULL,
    queue text NOT NULL,
    priority smallint DEFAULT 0 NOT NULL,
    request text NOT NULL,
    sealed boolean DEFAULT false NOT NULL,
    attempt integer NOT NULL,
    max_attempts integer NOT NULL,
    clocks text DEFAULT '{}'::text NOT NULL,
    lease_losses integer DEFAULT 0 NOT NULL,
    fence bigint NOT NULL,
    available_at timestamp with time zone NOT NULL,
    held boolean DEFAULT false NOT NULL,
    queue_deadline timestamp with time zone,
    total_deadline timestamp with time zone,
    executor_id text,
    leased_at timestamp with time zone,
    progress text,
    error text,
    created_at timestamp with time zone NOT NULL
)
WITH (fillfactor='70', autovacuum_vacuum_scale_factor='0.01', autovacuum_vacuum_cost_delay='0');
CREATE TABLE public.events (
    run_id uuid NOT NULL,
    seq integer NOT NULL,
    at timestamp with time zone NOT NULL,
    type text NOT NULL,
    actor text NOT NULL,
    reason text DEFAULT ''::text NOT NULL,
    data text NOT NULL
)
PARTITION BY RANGE (run_id);
CREATE TABLE public.events_202611 (
    run_id uuid CONSTRAINT events_run_id_not_null NOT NULL,
    seq integer CONSTRAINT events_seq_not_null NOT NULL,
    at timestamp with time zone CONSTRAINT events_at_not_null NOT NULL,
    type text CONSTRAINT events_type_not_null NOT NULL,
    actor text CONSTRAINT events_actor_not_null NOT NULL,
    reason text DEFAULT ''::text CONSTRAINT events_reason_not_null NOT NULL,
    data text CONSTRAINT events_data_not_null NOT NULL
)
WITH (fillfactor='100');
CREATE TABLE public.events_202612 (
    run_id uuid CONSTRAINT events_run_id_not_null NOT NULL,
    seq integer CONSTRAINT events_seq_not_null NOT NULL,
    at timestamp with time zone CONSTRAINT events_at_not_null NOT NULL,
    type text CONSTRAINT events_type_not_null NOT NULL,
    actor text CONSTRAINT events_actor_not_null NOT NULL,
    reason text DEFAULT ''::text CONSTRAINT events_reason_not_null NOT NULL,
    data text CONSTRAINT events_data_not_null NOT NULL
)
WITH (fillfactor='100');
CREATE TABLE public.events_202701 (
    run_id uuid CONSTRAINT events_run_id_not_null NOT NULL,
    seq integer CONSTRAINT events_seq_not_null NOT NULL,
    at timestamp with time zone CONSTRAINT events_at_not_null NOT NULL,
    type text CONSTRAINT events_type_not_null NOT NULL,
    actor text CONSTRAINT events_actor_not_null NOT NULL,
    reason text DEFAULT ''::text CONSTRAINT events_reason_not_null NOT NULL,
    data text CONSTRAINT events_data_not_null NOT NULL
)
WITH (fillfactor='100');
CREATE TABLE public.events_202702 (
    run_id uuid CONSTRAINT events_run_id_not_null NOT NULL,
    seq integer CONSTRAINT events_seq_not_null NOT NULL,
    at timestamp with time zone CONSTRAINT events_at_not_null NOT NULL,
    type text CONSTRAINT events_type_not_null NOT NULL,
    actor text CONSTRAINT events_actor_not_null NOT NULL,
    reason text DEFAULT ''::text CONSTRAINT events_reason_not_null NOT NULL,
    data text CONSTRAINT events_data_not_null NOT NULL
)
WITH (fillfactor='100');
CREATE TABLE public.events_default (
    run_id uuid CONSTRAINT events_run_id_not_null NOT NULL,
    seq integer CONSTRAINT events_seq_not_null NOT NULL,
    at timestamp with time zone CONSTRAINT events_at_not_null NOT NULL,
    type text CONSTRAINT events_type_not_null NOT NULL,
    actor text CONSTRAINT events_actor_not_null NOT NULL,
    reason text DEFAULT ''::text CONSTRAINT events_reason_not_null NOT NULL,
    data text CONSTRAINT events_data_not_null NOT NULL
);
CREATE TABLE public.executors (
    id text NOT NULL,
    name text NOT NULL,
    queues text[] NOT NULL,
    handlers text[] DEFAULT '{}'::text[] NOT NULL,
    lease_until timestamp with time zone NOT NULL,
    heartbeat_at timestamp with time zone NOT NULL,
    stopping boolean DEFAULT false NOT NULL,
    started_at timestamp with time zone NOT NULL
)
WITH (fillfactor='50');
CREATE TABLE public.gates (
    id uuid NOT NULL,
    run_id uuid NOT NULL,
    no integer NOT NULL,
    owner_id uuid NOT NULL,
    path text NOT NULL,
    iteration text DEFAULT ''::text NOT NULL,
    status text NOT NULL,
    title text NOT NULL,
    body text DEFAULT ''::text NOT NULL,
    payload text,
    policy text NOT NULL,
    digest text NOT NULL,
    started_by uuid NOT NULL,
    replaces uuid,
    created_at timestamp with time zone NOT NULL,
    expires_at timestamp with time zone,
    on_expiry text DEFAULT 'reject'::text NOT NULL,
    held_at timestamp with time zone,
    decided_at timestamp with time zone,
    decided_by uuid,
    outcome text,
    comment text DEFAULT ''::text NOT NULL,
    told_at timestamp with time zone,
    CONSTRAINT gates_on_expiry_check CHECK ((on_expiry = ANY (ARRAY['reject'::text, 'approve'::text, 'fail'::text]))),
    CONSTRAINT gates_status_check CHECK ((status = ANY (ARRAY['open'::text, 'approved'::text, 'rejected'::text, 'expired'::text, 'withdrawn'::text, 'superseded'::text])))
);
CREATE TABLE public.group_members (
    group_id uuid NOT NULL,
    principal_id uuid NOT NULL
);
CREATE TABLE public.groups (
    id uuid NOT NULL,
    owner_id uuid NOT NULL,
    name text NOT NULL,
    created_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL
);
CREATE TABLE public.idempotency (
    owner_id uuid NOT NULL,
    key text NOT NULL,
    request_hash bytea NOT NULL,
    run_id uuid NOT NULL,
    created_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL
);
CREATE TABLE public.outbox (
    id bigint NOT NULL,
    run_id uuid NOT NULL,
    subject text NOT NULL,
    body bytea NOT NULL,
    at timestamp with time zone DEFAULT clock_timestamp() NOT NULL
);
ALTER TABLE public.outbox ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME public.outbox_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);
CREATE TABLE public.owners (
    id uuid NOT NULL,
    name text NOT NULL,
    created_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL
);
CREATE TABLE public.principals (
    id uuid NOT NULL,
    owner_id uuid NOT NULL,
    name text NOT NULL,
    kind text NOT NULL,
    roles text[] DEFAULT '{}'::text[] NOT NULL,
    subject text,
    disabled_at timestamp with time zone,
    created_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    CONSTRAINT principals_kind_check CHECK ((kind = ANY (ARRAY['person'::text, 'agent'::text, 'service'::text])))
);
CREATE TABLE public.runs (
    id uuid NOT NULL,
    owner_id uuid NOT NULL,
    template_id uuid NOT NULL,
    template_name text NOT NULL,
    template_version integer NOT NULL,
    status text NOT NULL,
    phase text DEFAULT ''::text NOT NULL,
    reason text DEFAULT ''::text NOT NULL,
    version bigint NOT NULL,
    seq integer NOT NULL,
    epoch integer DEFAULT 1 NOT NULL,
    state text NOT NULL,
    input text NOT NULL,
    output text,
    error text,
    labels jsonb DEFAULT '{}'::jsonb NOT NULL,
    trigger_type text NOT NULL,
    created_by uuid NOT NULL,
    forked_from uuid,
    forked_snapshot uuid,
    created_at timestamp with time zone NOT NULL,
    started_at timestamp with time zone,
    updated_at timestamp with time zone NOT NULL,
    ended_at timestamp with time zone,
    CONSTRAINT runs_status_check CHECK ((status = ANY (ARRAY['pending'::text, 'running'::text, 'waiting_approval'::text, 'paused'::text, 'completed'::text, 'failed'::text, 'cancelled'::text])))
)
PARTITION BY RANGE (id);
CREATE TABLE public.runs_202611 (
    id uuid CONSTRAINT runs_id_not_null NOT NULL,
    owner_id uuid CONSTRAINT runs_owner_id_not_null NOT NULL,
    template_id uuid CONSTRAINT runs_template_id_not_null NOT NULL,
    template_name text CONSTRAINT runs_template_name_not_null NOT NULL,
    template_version integer CONSTRAINT runs_template_version_not_null NOT NULL,
    status text CONSTRAINT runs_status_not_null NOT NULL,
    phase text DEFAULT ''::text CONSTRAINT runs_phase_not_null NOT NULL,
    reason text DEFAULT ''::text CONSTRAINT runs_reason_not_null NOT NULL,
    version bigint CONSTRAINT runs_version_not_null NOT NULL,
    seq integer CONSTRAINT runs_seq_not_null NOT NULL,
    epoch integer DEFAULT 1 CONSTRAINT runs_epoch_not_null NOT NULL,
    state text CONSTRAINT runs_state_not_null NOT NULL,
    input text CONSTRAINT runs_input_not_null NOT NULL,
    output text,
    error text,
    labels jsonb DEFAULT '{}'::jsonb CONSTRAINT runs_labels_not_null NOT NULL,
    trigger_type text CONSTRAINT runs_trigger_type_not_null NOT NULL,
    created_by uuid CONSTRAINT runs_created_by_not_null NOT NULL,
    forked_from uuid,
    forked_snapshot uuid,
    created_at timestamp with time zone CONSTRAINT runs_created_at_not_null NOT NULL,
    started_at timestamp with time zone,
    updated_at timestamp with time zone CONSTRAINT runs_updated_at_not_null NOT NULL,
    ended_at timestamp with time zone,
    CONSTRAINT runs_status_check CHECK ((status = ANY (ARRAY['pending'::text, 'running'::text, 'waiting_approval'::text, 'paused'::text, 'completed'::text, 'failed'::text, 'cancelled'::text])))
)
WITH (fillfactor='70');
CREATE TABLE public.runs_202612 (
    id uuid CONSTRAINT runs_id_not_null NOT NULL,
    owner_id uuid CONSTRAINT runs_owner_id_not_null NOT NULL,
    template_id uuid CONSTRAINT runs_template_id_not_null NOT NULL,
    template_name text CONSTRAINT runs_template_name_not_null NOT NULL,
    template_version integer CONSTRAINT runs_template_version_not_null NOT NULL,
    status text CONSTRAINT runs_status_not_null NOT NULL,
    phase text DEFAULT ''::text CONSTRAINT runs_phase_not_null NOT NULL,
    reason text DEFAULT ''::text CONSTRAINT runs_reason_not_null NOT NULL,
    version bigint CONSTRAINT runs_version_not_null NOT NULL,
    seq integer CONSTRAINT runs_seq_not_null NOT NULL,
    epoch integer DEFAULT 1 CONSTRAINT runs_epoch_not_null NOT NULL,
    state text CONSTRAINT runs_state_not_null NOT NULL,
    input text CONSTRAINT runs_input_not_null NOT NULL,
    output text,
    error text,
    labels jsonb DEFAULT '{}'::jsonb CONSTRAINT runs_labels_not_null NOT NULL,
    trigger_type text CONSTRAINT runs_trigger_type_not_null NOT NULL,
    created_by uuid CONSTRAINT runs_created_by_not_null NOT NULL,
    forked_from uuid,
    forked_snapshot uuid,
    created_at timestamp with time zone CONSTRAINT runs_created_at_not_null NOT NULL,
    started_at timestamp with time zone,
    updated_at timestamp with time zone CONSTRAINT runs_updated_at_not_null NOT NULL,
    ended_at timestamp with time zone,
    CONSTRAINT runs_status_check CHECK ((status = ANY (ARRAY['pending'::text, 'running'::text, 'waiting_approval'::text, 'paused'::text, 'completed'::text, 'failed'::text, 'cancelled'::text])))
)
WITH (fillfactor='70');
CREATE TABLE public.runs_202701 (
    id uuid CONSTRAINT runs_id_not_null NOT NULL,
    owner_id uuid CONSTRAINT runs_owner_id_not_null NOT NULL,
    template_id uuid CONSTRAINT runs_template_id_not_null NOT NULL,
    template_name text CONSTRAINT runs_template_name_not_null NOT NULL,
    template_version integer CONSTRAINT runs_template_version_not_null NOT NULL,
    status text CONSTRAINT runs_status_not_null NOT NULL,
    phase text DEFAULT ''::text CONSTRAINT runs_phase_not_null NOT NULL,
    reason text DEFAULT ''::text CONSTRAINT runs_reason_not_null NOT NULL,
    version bigint CONSTRAINT runs_version_not_null NOT NULL,
    seq integer CONSTRAINT runs_seq_not_null NOT NULL,
    epoch integer DEFAULT 1 CONSTRAINT runs_epoch_not_null NOT NULL,
    state text CONSTRAINT runs_state_not_null NOT NULL,
    input text CONSTRAINT runs_input_not_null NOT NULL,
    output text,
    error text,
    labels jsonb DEFAULT '{}'::jsonb CONSTRAINT runs_labels_not_null NOT NULL,
    trigger_type text CONSTRAINT runs_trigger_type_not_null NOT NULL,
    created_by uuid CONSTRAINT runs_created_by_not_null NOT NULL,
    forked_from uuid,
    forked_snapshot uuid,
    created_at timestamp with time zone CONSTRAINT runs_created_at_not_null NOT NULL,
    started_at timestamp with time zone,
    updated_at timestamp with time zone CONSTRAINT runs_updated_at_not_null NOT NULL,
    ended_at timestamp with time zone,
    CONSTRAINT runs_status_check CHECK ((status = ANY (ARRAY['pending'::text, 'running'::text, 'waiting_approval'::text, 'paused'::text, 'completed'::text, 'failed'::text, 'cancelled'::text])))
)
WITH (fillfactor='70');
CREATE TABLE public.runs_202702 (
    id uuid CONSTRAINT runs_id_not_null NOT NULL,
    owner_id uuid CONSTRAINT runs_owner_id_not_null NOT NULL,
    template_id uuid CONSTRAINT runs_template_id_not_null NOT NULL,
    template_name text CONSTRAINT runs_template_name_not_null NOT NULL,
    template_version integer CONSTRAINT runs_template_version_not_null NOT NULL,
    status text CONSTRAINT runs_status_not_null NOT NULL,
    phase text DEFAULT ''::text CONSTRAINT runs_phase_not_null NOT NULL,
    reason text DEFAULT ''::text CONSTRAINT runs_reason_not_null NOT NULL,
    version bigint CONSTRAINT runs_version_not_null NOT NULL,
    seq integer CONSTRAINT runs_seq_not_null NOT NULL,
    epoch integer DEFAULT 1 CONSTRAINT runs_epoch_not_null NOT NULL,
    state text CONSTRAINT runs_state_not_null NOT NULL,
    input text CONSTRAINT runs_input_not_null NOT NULL,
    output text,
    error text,
    labels jsonb DEFAULT '{}'::jsonb CONSTRAINT runs_labels_not_null NOT NULL,
    trigger_type text CONSTRAINT runs_trigger_type_not_null NOT NULL,
    created_by uuid CONSTRAINT runs_created_by_not_null NOT NULL,
    forked_from uuid,
    forked_snapshot uuid,
    created_at timestamp with time zone CONSTRAINT runs_created_at_not_null NOT NULL,
    started_at timestamp with time zone,
    updated_at timestamp with time zone CONSTRAINT runs_updated_at_not_null NOT NULL,
    ended_at timestamp with time zone,
    CONSTRAINT runs_status_check CHECK ((status = ANY (ARRAY['pending'::text, 'running'::text, 'waiting_approval'::text, 'paused'::text, 'completed'::text, 'failed'::text, 'cancelled'::text])))
)
WITH (fillfactor='70');
CREATE TABLE public.runs_default (
    id uuid CONSTRAINT runs_id_not_null NOT NULL,
    owner_id uuid CONSTRAINT runs_owner_id_not_null NOT NULL,
    template_id uuid CONSTRAINT runs_template_id_not_null NOT NULL,
    template_name text CONSTRAINT runs_template_name_not_null NOT NULL,
    template_version integer CONSTRAINT runs_template_version_not_null NOT NULL,
    status text CONSTRAINT runs_status_not_null NOT NULL,
    phase text DEFAULT ''::text CONSTRAINT runs_phase_not_null NOT NULL,
    reason text DEFAULT ''::text CONSTRAINT runs_reason_not_null NOT NULL,
    version bigint CONSTRAINT runs_version_not_null NOT NULL,
    seq integer CONSTRAINT runs_seq_not_null NOT NULL,
    epoch integer DEFAULT 1 CONSTRAINT runs_epoch_not_null NOT NULL,
    state text CONSTRAINT runs_state_not_null NOT NULL,
    input text CONSTRAINT runs_input_not_null NOT NULL,
    output text,
    error text,
    labels jsonb DEFAULT '{}'::jsonb CONSTRAINT runs_labels_not_null NOT NULL,
    trigger_type text CONSTRAINT runs_trigger_type_not_null NOT NULL,
    created_by uuid CONSTRAINT runs_created_by_not_null NOT NULL,
    forked_from uuid,
    forked_snapshot uuid,
    created_at timestamp with time zone CONSTRAINT runs_created_at_not_null NOT NULL,
    started_at timestamp with time zone,
    updated_at timestamp with time zone CONSTRAINT runs_updated_at_not_null NOT NULL,
    ended_at timestamp with time zone,
    CONSTRAINT runs_status_check CHECK ((status = ANY (ARRAY['pending'::text, 'running'::text, 'waiting_approval'::text, 'paused'::text, 'completed'::text, 'failed'::text, 'cancelled'::text])))
)
WITH (fillfactor='70');
CREATE TABLE public.sealed_values (
    run_id uuid NOT NULL,
    name text NOT NULL,
    ciphertext bytea NOT NULL
);
CREATE TABLE public.snapshots (
    run_id uuid NOT NULL,
    id uuid NOT NULL,
    seq integer NOT NULL,
    kind text NOT NULL,
    name text DEFAULT ''::text NOT NULL,
    state text NOT NULL,
    created_at timestamp with time zone NOT NULL,
    CONSTRAINT snapshots_kind_check CHECK ((kind = ANY (ARRAY['gate'::text, 'checkpoint'::text, 'periodic'::text, 'demand'::text])))
)
PARTITION BY RANGE (run_id);
CREATE TABLE public.snapshots_202611 (
    run_id uuid CONSTRAINT snapshots_run_id_not_null NOT NULL,
    id uuid CONSTRAINT snapshots_id_not_null NOT NULL,
    seq integer CONSTRAINT snapshots_seq_not_null NOT NULL,
    kind text CONSTRAINT snapshots_kind_not_null NOT NULL,
    name text DEFAULT ''::text CONSTRAINT snapshots_name_not_null NOT NULL,
    state text CONSTRAINT snapshots_state_not_null NOT NULL,
    created_at timestamp with time zone CONSTRAINT snapshots_created_at_not_null NOT NULL,
    CONSTRAINT snapshots_kind_check CHECK ((kind = ANY (ARRAY['gate'::text, 'checkpoint'::text, 'periodic'::text, 'demand'::text])))
)
WITH (fillfactor='100');
CREATE TABLE public.snapshots_202612 (
    run_id uuid CONSTRAINT snapshots_run_id_not_null NOT NULL,
    id uuid CONSTRAINT snapshots_id_not_null NOT NULL,
    seq integer CONSTRAINT snapshots_seq_not_null NOT NULL,
    kind text CONSTRAINT snapshots_kind_not_null NOT NULL,
    name text DEFAULT ''::text CONSTRAINT snapshots_name_not_null NOT NULL,
    state text CONSTRAINT snapshots_state_not_null NOT NULL,
    created_at timestamp with time zone CONSTRAINT snapshots_created_at_not_null NOT NULL,
    CONSTRAINT snapshots_kind_check CHECK ((kind = ANY (ARRAY['gate'::text, 'checkpoint'::text, 'periodic'::text, 'demand'::text])))
)
WITH (fillfactor='100');
CREATE TABLE public.snapshots_202701 (
    run_id uuid CONSTRAINT snapshots_run_id_not_null NOT NULL,
    id uuid CONSTRAINT snapshots_id_not_null NOT NULL,
    seq integer CONSTRAINT snapshots_seq_not_null NOT NULL,
    kind text CONSTRAINT snapshots_kind_not_null NOT NULL,
    name text DEFAULT ''::text CONSTRAINT snapshots_name_not_null NOT NULL,
    state text CONSTRAINT snapshots_state_not_null NOT NULL,
    created_at timestamp with time zone CONSTRAINT snapshots_created_at_not_null NOT NULL,
    CONSTRAINT snapshots_kind_check CHECK ((kind = ANY (ARRAY['gate'::text, 'checkpoint'::text, 'periodic'::text, 'demand'::text])))
)
WITH (fillfactor='100');
CREATE TABLE public.snapshots_202702 (
    run_id uuid CONSTRAINT snapshots_run_id_not_null NOT NULL,
    id uuid CONSTRAINT snapshots_id_not_null NOT NULL,
    seq integer CONSTRAINT snapshots_seq_not_null NOT NULL,
    kind text CONSTRAINT snapshots_kind_not_null NOT NULL,
    name text DEFAULT ''::text CONSTRAINT snapshots_name_not_null NOT NULL,
    state text CONSTRAINT snapshots_state_not_null NOT NULL,
    created_at timestamp with time zone CONSTRAINT snapshots_created_at_not_null NOT NULL,
    CONSTRAINT snapshots_kind_check CHECK ((kind = ANY (ARRAY['gate'::text, 'checkpoint'::text, 'periodic'::text, 'demand'::text])))
)
WITH (fillfactor='100');
CREATE TABLE public.snapshots_default (
    run_id uuid CONSTRAINT snapshots_run_id_not_null NOT NULL,
    id uuid CONSTRAINT snapshots_id_not_null NOT NULL,
    seq integer CONSTRAINT snapshots_seq_not_null NOT NULL,
    kind text CONSTRAINT snapshots_kind_not_null NOT NULL,
    name text DEFAULT ''::text CONSTRAINT snapshots_name_not_null NOT NULL,
    state text CONSTRAINT snapshots_state_not_null NOT NULL,
    created_at timestamp with time zone CONSTRAINT snapshots_created_at_not_null NOT NULL,
    CONSTRAINT snapshots_kind_check CHECK ((kind = ANY (ARRAY['gate'::text, 'checkpoint'::text, 'periodic'::text, 'demand'::text])))
);
CREATE TABLE public.steps (
    run_id uuid NOT NULL,
    no integer NOT NULL,
    path text NOT NULL,
    iteration text DEFAULT ''::text NOT NULL,
    visit integer DEFAULT 1 NOT NULL,
    kind text NOT NULL,
    status text NOT NULL,
    seq integer NOT NULL,
    attempts integer DEFAULT 0 NOT NULL,
    max_attempts integer DEFAULT 1 NOT NULL,
    lease_losses integer DEFAULT 0 NOT NULL,
    input text,
    output text,
    error text,
    executor text DEFAULT ''::text NOT NULL,
    gate_id uuid,
    due_at timestamp with time zone,
    created_at timestamp with time zone NOT NULL,
    started_at timestamp with time zone,
    ended_at timestamp with time zone,
    CONSTRAINT steps_status_check CHECK ((status = ANY (ARRAY['pending'::text, 'ready'::text, 'running'::text, 'waiting'::text, 'waiting_approval'::text, 'completed'::text, 'failed'::text, 'skipped'::text, 'cancelled'::text, 'rolled_back'::text])))
)
PARTITION BY RANGE (run_id);
CREATE TABLE public.steps_202611 (
    run_id uuid CONSTRAINT steps_run_id_not_null NOT NULL,
    no integer CONSTRAINT steps_no_not_null NOT NULL,
    path text CONSTRAINT steps_path_not_null NOT NULL,
    iteration text DEFAULT ''::text CONSTRAINT steps_iteration_not_null NOT NULL,
    visit integer DEFAULT 1 CONSTRAINT steps_visit_not_null NOT NULL,
    kind text CONSTRAINT steps_kind_not_null NOT NULL,
    status text CONSTRAINT steps_status_not_null NOT NULL,
    seq integer CONSTRAINT steps_seq_not_null NOT NULL,
    attempts integer DEFAULT 0 CONSTRAINT steps_attempts_not_null NOT NULL,
    max_attempts integer DEFAULT 1 CONSTRAINT steps_max_attempts_not_null NOT NULL,
    lease_losses integer DEFAULT 0 CONSTRAINT steps_lease_losses_not_null NOT NULL,
    input text,
    output text,
    error text,
    executor text DEFAULT ''::text CONSTRAINT steps_executor_not_null NOT NULL,
    gate_id uuid,
    due_at timestamp with time zone,
    created_at timestamp with time zone CONSTRAINT steps_created_at_not_null NOT NULL,
    started_at timestamp with time zone,
    ended_at timestamp with time zone,
    CONSTRAINT steps_status_check CHECK ((status = ANY (ARRAY['pending'::text, 'ready'::text, 'running'::text, 'waiting'::text, 'waiting_approval'::text, 'completed'::text, 'failed'::text, 'skipped'::text, 'cancelled'::text, 'rolled_back'::text])))
)
WITH (fillfactor='90');
CREATE TABLE public.steps_202612 (
    run_id uuid CONSTRAINT steps_run_id_not_null NOT NULL,
    no integer CONSTRAINT steps_no_not_null NOT NULL,
    path text CONSTRAINT steps_path_not_null NOT NULL,
    iteration text DEFAULT ''::text CONSTRAINT steps_iteration_not_null NOT NULL,
    visit integer DEFAULT 1 CONSTRAINT steps_visit_not_null NOT NULL,
    kind text CONSTRAINT steps_kind_not_null NOT NULL,
    status text CONSTRAINT steps_status_not_null NOT NULL,
    seq integer CONSTRAINT steps_seq_not_null NOT NULL,
    attempts integer DEFAULT 0 CONSTRAINT steps_attempts_not_null NOT NULL,
    max_attempts integer DEFAULT 1 CONSTRAINT steps_max_attempts_not_null NOT NULL,
    lease_losses integer DEFAULT 0 CONSTRAINT steps_lease_losses_not_null NOT NULL,
    input text,
    output text,
    error text,
    executor text DEFAULT ''::text CONSTRAINT steps_executor_not_null NOT NULL,
    gate_id uuid,
    due_at timestamp with time zone,
    created_at timestamp with time zone CONSTRAINT steps_created_at_not_null NOT NULL,
    started_at timestamp with time zone,
    ended_at timestamp with time zone,
    CONSTRAINT steps_status_check CHECK ((status = ANY (ARRAY['pending'::text, 'ready'::text, 'running'::text, 'waiting'::text, 'waiting_approval'::text, 'completed'::text, 'failed'::text, 'skipped'::text, 'cancelled'::text, 'rolled_back'::text])))
)
WITH (fillfactor='90');
CREATE TABLE public.steps_202701 (
    run_id uuid CONSTRAINT steps_run_id_not_null NOT NULL,
    no integer CONSTRAINT steps_no_not_null NOT NULL,
    path text CONSTRAINT steps_path_not_null NOT NULL,
    iteration text DEFAULT ''::text CONSTRAINT steps_iteration_not_null NOT NULL,
    visit integer DEFAULT 1 CONSTRAINT steps_visit_not_null NOT NULL,
    kind text CONSTRAINT steps_kind_not_null NOT NULL,
    status text CONSTRAINT steps_status_not_null NOT NULL,
    seq integer CONSTRAINT steps_seq_not_null NOT NULL,
    attempts integer DEFAULT 0 CONSTRAINT steps_attempts_not_null NOT NULL,
    max_attempts integer DEFAULT 1 CONSTRAINT steps_max_attempts_not_null NOT NULL,
    lease_losses integer DEFAULT 0 CONSTRAINT steps_lease_losses_not_null NOT NULL,
    input text,
    output text,
    error text,
    executor text DEFAULT ''::text CONSTRAINT steps_executor_not_null NOT NULL,
    gate_id uuid,
    due_at timestamp with time zone,
    created_at timestamp with time zone CONSTRAINT steps_created_at_not_null NOT NULL,
    started_at timestamp with time zone,
    ended_at timestamp with time zone,
    CONSTRAINT steps_status_check CHECK ((status = ANY (ARRAY['pending'::text, 'ready'::text, 'running'::text, 'waiting'::text, 'waiting_approval'::text, 'completed'::text, 'failed'::text, 'skipped'::text, 'cancelled'::text, 'rolled_back'::text])))
)
WITH (fillfactor='90');
CREATE TABLE public.steps_202702 (
    run_id uuid CONSTRAINT steps_run_id_not_null NOT NULL,
    no integer CONSTRAINT steps_no_not_null NOT NULL,
    path text CONSTRAINT steps_path_not_null NOT NULL,
    iteration text DEFAULT ''::text CONSTRAINT steps_iteration_not_null NOT NULL,
    visit integer DEFAULT 1 CONSTRAINT steps_visit_not_null NOT NULL,
    kind text CONSTRAINT steps_kind_not_null NOT NULL,
    status text CONSTRAINT steps_status_not_null NOT NULL,
    seq integer CONSTRAINT steps_seq_not_null NOT NULL,
    attempts integer DEFAULT 0 CONSTRAINT steps_attempts_not_null NOT NULL,
    max_attempts integer DEFAULT 1 CONSTRAINT steps_max_attempts_not_null NOT NULL,
    lease_losses integer DEFAULT 0 CONSTRAINT steps_lease_losses_not_null NOT NULL,
    input text,
    output text,
    error text,
    executor text DEFAULT ''::text CONSTRAINT steps_executor_not_null NOT NULL,
    gate_id uuid,
    due_at timestamp with time zone,
    created_at timestamp with time zone CONSTRAINT steps_created_at_not_null NOT NULL,
    started_at timestamp with time zone,
    ended_at timestamp with time zone,
    CONSTRAINT steps_status_check CHECK ((status = ANY (ARRAY['pending'::text, 'ready'::text, 'running'::text, 'waiting'::text, 'waiting_approval'::text, 'completed'::text, 'failed'::text, 'skipped'::text, 'cancelled'::text, 'rolled_back'::text])))
)
WITH (fillfactor='90');
CREATE TABLE public.steps_default (
    run_id uuid CONSTRAINT steps_run_id_not_null NOT NULL,
    no integer CONSTRAINT steps_no_not_null NOT NULL,
    path text CONSTRAINT steps_path_not_null NOT NULL,
    iteration text DEFAULT ''::text CONSTRAINT steps_iteration_not_null NOT NULL,
    visit integer DEFAULT 1 CONSTRAINT steps_visit_not_null NOT NULL,
    kind text CONSTRAINT steps_kind_not_null NOT NULL,
    status text CONSTRAINT steps_status_not_null NOT NULL,
    seq integer CONSTRAINT steps_seq_not_null NOT NULL,
    attempts integer DEFAULT 0 CONSTRAINT steps_attempts_not_null NOT NULL,
    max_attempts integer DEFAULT 1 CONSTRAINT steps_max_attempts_not_null NOT NULL,
    lease_losses integer DEFAULT 0 CONSTRAINT steps_lease_losses_not_null NOT NULL,
    input text,
    output text,
    error text,
    executor text DEFAULT ''::text CONSTRAINT steps_executor_not_null NOT NULL,
    gate_id uuid,
    due_at timestamp with time zone,
    created_at timestamp with time zone CONSTRAINT steps_created_at_not_null NOT NULL,
    started_at timestamp with time zone,
    ended_at timestamp with time zone,
    CONSTRAINT steps_status_check CHECK ((status = ANY (ARRAY['pending'::text, 'ready'::text, 'running'::text, 'waiting'::text, 'waiting_approval'::text, 'completed'::text, 'failed'::text, 'skipped'::text, 'cancelled'::text, 'rolled_back'::text])))
);
CREATE TABLE public.template_versions (
    template_id uuid NOT NULL,
    version integer NOT NULL,
    name text NOT NULL,
    source text NOT NULL,
    published_by uuid NOT NULL,
    published_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    CONSTRAINT template_versions_version_check CHECK ((version > 0))
);
CREATE TABLE public.templates (
    id uuid NOT NULL,
    owner_id uuid NOT NULL,
    name text NOT NULL,
    draft text NOT NULL,
    latest_version integer DEFAULT 0 NOT NULL,
    deprecated_at timestamp with time zone,
    created_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    updated_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL
);
CREATE TABLE public.timers (
    run_id uuid NOT NULL,
    no integer NOT NULL,
    due_at timestamp with time zone NOT NULL
)
WITH (autovacuum_vacuum_scale_factor='0.01', autovacuum_vacuum_cost_delay='0');
ALTER TABLE ONLY public.events ATTACH PARTITION public.events_202611 FOR VALUES FROM ('01a19467-e800-0000-0000-000000000000') TO ('01a22ee6-b000-0000-0000-000000000000');
ALTER TABLE ONLY public.events ATTACH PARTITION public.events_202612 FOR VALUES FROM ('01a22ee6-b000-0000-0000-000000000000') TO ('01a2ce8b-d400-0000-0000-000000000000');
ALTER TABLE ONLY public.events ATTACH PARTITION public.events_202701 FOR VALUES FROM ('01a2ce8b-d400-0000-0000-000000000000') TO ('01a36e30-f800-0000-0000-000000000000');
ALTER TABLE ONLY public.events ATTACH PARTITION public.events_202702 FOR VALUES FROM ('01a36e30-f800-0000-0000-000000000000') TO ('01a3fe63-0800-0000-0000-000000000000');
ALTER TABLE ONLY public.events ATTACH PARTITION public.events_default DEFAULT;
ALTER TABLE ONLY public.runs ATTACH PARTITION public.runs_202611 FOR VALUES FROM ('01a19467-e800-0000-0000-000000000000') TO ('01a22ee6-b000-0000-0000-000000000000');
ALTER TABLE ONLY public.runs ATTACH PARTITION public.runs_202612 FOR VALUES FROM ('01a22ee6-b000-0000-0000-000000000000') TO ('01a2ce8b-d400-0000-0000-000000000000');
ALTER TABLE ONLY public.runs ATTACH PARTITION public.runs_202701 FOR VALUES FROM ('01a2ce8b-d400-0000-0000-000000000000') TO ('01a36e30-f800-0000-0000-000000000000');
ALTER TABLE ONLY public.runs ATTACH PARTITION public.runs_202702 FOR VALUES FROM ('01a36e30-f800-0000-0000-000000000000') TO ('01a3fe63-0800-0000-0000-000000000000');
ALTER TABLE ONLY public.runs ATTACH PARTITION public.runs_default DEFAULT;
ALTER TABLE ONLY public.snapshots ATTACH PARTITION public.snapshots_202611 FOR VALUES FROM ('01a19467-e800-0000-0000-000000000000') TO ('01a22ee6-b000-0000-0000-000000000000');
ALTER TABLE ONLY public.snapshots ATTACH PARTITION public.snapshots_202612 FOR VALUES FROM ('01a22ee6-b000-0000-0000-000000000000') TO ('01a2ce8b-d400-0000-0000-000000000000');
ALTER TABLE ONLY public.snapshots ATTACH PARTITION public.snapshots_202701 FOR VALUES FROM ('01a2ce8b-d400-0000-0000-000000000000') TO ('01a36e30-f800-0000-0000-000000000000');
ALTER TABLE ONLY public.snapshots ATTACH PARTITION public.snapshots_202702 FOR VALUES FROM ('01a36e30-f800-0000-0000-000000000000') TO ('01a3fe63-0800-0000-0000-000000000000');
ALTER TABLE ONLY public.snapshots ATTACH PARTITION public.snapshots_default DEFAULT;
ALTER TABLE ONLY public.steps ATTACH PARTITION public.steps_202611 FOR VALUES FROM ('01a19467-e800-0000-0000-000000000000') TO ('01a22ee6-b000-0000-0000-000000000000');
ALTER TABLE ONLY public.steps ATTACH PARTITION public.steps_202612 FOR VALUES FROM ('01a22ee6-b000-0000-0000-000000000000') TO ('01a2ce8b-d400-0000-0000-000000000000');
ALTER TABLE ONLY public.steps ATTACH PARTITION public.steps_202701 FOR VALUES FROM ('01a2ce8b-d400-0000-0000-000000000000') TO ('01a36e30-f800-0000-0000-000000000000');
ALTER TABLE ONLY public.steps ATTACH PARTITION public.steps_202702 FOR VALUES FROM ('01a36e30-f800-0000-0000-000000000000') TO ('01a3fe63-0800-0000-0000-000000000000');
ALTER TABLE ONLY public.steps ATTACH PARTITION public.steps_default DEFAULT;
COPY public.alembic_version (version_num) FROM stdin;
0001
\.
COPY public.api_keys (id, owner_id, principal_id, name, hash, roles, created_at, expires_at, revoked_at, last_used_at, replaces) FROM stdin;
bb7ZGVHD	b78cadbf-218c-41a0-9c77-53003a5a152d	1f0ef8f2-e45d-41bf-a4d8-b323c1481943	wfe up	\\xf8b26c56261e6e8324caea0419a3916cf7a53f79d3190245ec80f32fc4f0442f	\N	2026-11-24 22:35:13.546106+00	\N	\N	\N	\N
BygYh8nT	b78cadbf-218c-41a0-9c77-53003a5a152d	5a3a5df3-5279-4976-bff1-f467a06c88c0	wfe up	\\xa12e05b149969d6af27cc708b80f0b62b0f399b4d23be93a3eb3fcdb9b65f571	\N	2026-11-24 22:35:13.547995+00	\N	\N	\N	\N
Cb0fEMle	b78cadbf-218c-41a0-9c77-53003a5a152d	a3e37212-7beb-470a-b822-fe28df43188c	wfe up	\\x3cc8e3da6756ae68a2b373a795b8cccb2f7714f1939fb1a86028f085e4fc6353	\N	2026-11-24 22:35:13.539029+00	\N	\N	2026-11-24 22:35:20.676946+00	\N
\.
COPY public.dispatch (run_id, no, owner_id, path, iteration, visit, epoch, kind, queue, priority, request, sealed, attempt, max_attempts, clocks, lease_losses, fence, available_at, held, queue_deadline, total_deadline, executor_id, leased_at, progress, error, created_at) FROM stdin;
01a20fb3-08ba-71c9-95a1-b971c0f38f4b	1	b78cadbf-218c-41a0-9c77-53003a5a152d	work		1	1	call	default	0	{"handler":"sleep","input":{"seconds":2}}	f	1	3	{}	0	65537	2026-11-24 22:35:21.147552+00	t	\N	\N	node-2dcbd22eec05	2026-11-24 22:35:21.147552+00	\N	\N	2026-11-24 22:35:21.147552+00
01a20fb3-08ee-78d5-b572-911e3b2e3660	1	b78cadbf-218c-41a0-9c77-53003a5a152d	work		1	1	call	default	0	{"handler":"sleep","input":{"seconds":1}}	f	1	3	{}	0	65537	2026-11-24 22:35:21.200171+00	f	\N	\N	node-2dcbd22eec05	2026-11-24 22:35:21.200171+00	\N	\N	2026-11-24 22:35:21.200171+00
\.
COPY public.events_202611 (run_id, seq, at, type, actor, reason, data) FROM stdin;
01a20fb3-0818-77fe-a73b-afca8da6d76c	1	2026-11-24 22:35:20.986385+00	run.created	principal:a3e37212-7beb-470a-b822-fe28df43188c		{"template":"95546b9f-5367-4d3f-8b77-2436b4225e30","template_version":1,"trigger":"api","input":{}}
01a20fb3-0818-77fe-a73b-afca8da6d76c	2	2026-11-24 22:35:20.986385+00	run.started	principal:a3e37212-7beb-470a-b822-fe28df43188c		{}
01a20fb3-0818-77fe-a73b-afca8da6d76c	3	2026-11-24 22:35:20.986385+00	step.ready	principal:a3e37212-7beb-470a-b822-fe28df43188c		{"step":"before","no":1,"i":0,"kind":"call"}
01a20fb3-0818-77fe-a73b-afca8da6d76c	4	2026-11-24 22:35:21.013918+00	step.completed	executor:node-2dcbd22eec05		{"step":"before","no":1,"i":0,"attempt":1,"executor":"node-2dcbd22eec05"}
01a20fb3-0818-77fe-a73b-afca8da6d76c	5	2026-11-24 22:35:21.013918+00	snapshot.created	executor:node-2dcbd22eec05		{"snapshot":"01a20fb3-0834-7e99-a867-d5489f9ceb7a","kind":"gate","name":"gate"}
01a20fb3-0818-77fe-a73b-afca8da6d76c	6	2026-11-24 22:35:21.013918+00	approval.requested	executor:node-2dcbd22eec05		{"step":"gate","no":2,"i":1,"approval":"01a20fb3-0834-7c24-b062-f7e1101efc1a","title":"Go on?"}
01a20fb3-086b-790d-a803-e5598b9eda33	1	2026-11-24 22:35:21.068676+00	run.created	principal:a3e37212-7beb-470a-b822-fe28df43188c		{"template":"8ff5cc88-4cf6-4862-8852-a843cec13a45","template_version":1,"trigger":"api","input":{}}
01a20fb3-086b-790d-a803-e5598b9eda33	2	2026-11-24 22:35:21.068676+00	run.started	principal:a3e37212-7beb-470a-b822-fe28df43188c		{}
01a20fb3-086b-790d-a803-e5598b9eda33	3	2026-11-24 22:35:21.068676+00	step.ready	principal:a3e37212-7beb-470a-b822-fe28df43188c		{"step":"work","no":1,"i":0,"kind":"call"}
01a20fb3-086b-790d-a803-e5598b9eda33	4	2026-11-24 22:35:21.094232+00	step.failed	executor:node-2dcbd22eec05		{"step":"work","no":1,"i":0,"fault":{"code":"FLAKY","message":"attempt 1 fails, as it was asked to","step":"work"},"attempt":1,"executor":"node-2dcbd22eec05"}
01a20fb3-086b-790d-a803-e5598b9eda33	5	2026-11-24 22:35:21.094232+00	run.failed	executor:node-2dcbd22eec05		{"fault":{"code":"FLAKY","message":"attempt 1 fails, as it was asked to","step":"work"},"code":"flaky"}
01a20fb3-08ba-71c9-95a1-b971c0f38f4b	1	2026-11-24 22:35:21.147552+00	run.created	principal:a3e37212-7beb-470a-b822-fe28df43188c		{"template":"0d3844b6-f43a-44dd-888f-e18ac6c76741","template_version":1,"trigger":"api","input":{}}
01a20fb3-08ba-71c9-95a1-b971c0f38f4b	2	2026-11-24 22:35:21.147552+00	run.started	principal:a3e37212-7beb-470a-b822-fe28df43188c		{}
01a20fb3-08ba-71c9-95a1-b971c0f38f4b	3	2026-11-24 22:35:21.147552+00	step.ready	principal:a3e37212-7beb-470a-b822-fe28df43188c		{"step":"work","no":1,"i":0,"kind":"call"}
01a20fb3-08ba-71c9-95a1-b971c0f38f4b	4	2026-11-24 22:35:21.170945+00	run.paused	principal:a3e37212-7beb-470a-b822-fe28df43188c		{}
01a20fb3-08ee-78d5-b572-911e3b2e3660	1	2026-11-24 22:35:21.200171+00	run.created	principal:a3e37212-7beb-470a-b822-fe28df43188c		{"template":"25003bef-3a89-4b32-82c4-10780a3f0249","template_version":1,"trigger":"api","input":{}}
01a20fb3-08ee-78d5-b572-911e3b2e3660	2	2026-11-24 22:35:21.200171+00	run.started	principal:a3e37212-7beb-470a-b822-fe28df43188c		{}
01a20fb3-08ee-78d5-b572-911e3b2e3660	3	2026-11-24 22:35:21.200171+00	step.ready	principal:a3e37212-7beb-470a-b822-fe28df43188c		{"step":"work","no":1,"i":0,"kind":"call"}
01a20fb3-08fd-7674-a4fd-a62a66784d3c	1	2026-11-24 22:35:21.214679+00	run.created	principal:a3e37212-7beb-470a-b822-fe28df43188c		{"template":"7429faf9-fa2f-4e94-95ba-9276a6a9b2b9","template_version":1,"trigger":"api","input":{}}
01a20fb3-08fd-7674-a4fd-a62a66784d3c	2	2026-11-24 22:35:21.214679+00	run.started	principal:a3e37212-7beb-470a-b822-fe28df43188c		{}
01a20fb3-08fd-7674-a4fd-a62a66784d3c	3	2026-11-24 22:35:21.214679+00	step.waiting	principal:a3e37212-7beb-470a-b822-fe28df43188c		{"step":"rest","no":1,"i":0,"kind":"wait","due":1795559726.214679}
\.
COPY public.events_202612 (run_id, seq, at, type, actor, reason, data) FROM stdin;
\.
COPY public.events_202701 (run_id, seq, at, type, actor, reason, data) FROM stdin;
\.
COPY public.events_202702 (run_id, seq, at, type, actor, reason, data) FROM stdin;
\.
COPY public.events_default (run_id, seq, at, type, actor, reason, data) FROM stdin;
\.
COPY public.executors (id, name, queues, handlers, lease_until, heartbeat_at, stopping, started_at) FROM stdin;
node-2dcbd22eec05	node/1	{default}	{echo,flaky,sleep,summarise,sync_sleep,work}	2026-11-24 22:35:35.641505+00	2026-11-24 22:35:20.641505+00	f	2026-11-24 22:35:20.641505+00
\.
COPY public.gates (id, run_id, no, owner_id, path, iteration, status, title, body, payload, policy, digest, started_by, replaces, created_at, expires_at, on_expiry, held_at, decided_at, decided_by, outcome, comment, told_at) FROM stdin;
01a20fb3-0834-7c24-b062-f7e1101efc1a	01a20fb3-0818-77fe-a73b-afca8da6d76c	2	b78cadbf-218c-41a0-9c77-53003a5a152d	gate		open	Go on?		\N	{"users":[],"groups":[],"roles":["approver"],"exclude_starter":true}	9690a2d8f7a8c4d8025f8eda943cbe65703f40a5e97f0c5df957c073e0ca1864	a3e37212-7beb-470a-b822-fe28df43188c	\N	2026-11-24 22:35:21.013918+00	\N	reject	\N	\N	\N	\N		\N
\.
COPY public.group_members (group_id, principal_id) FROM stdin;
766850c0-0020-4266-b687-ffe52f3dce5b	1f0ef8f2-e45d-41bf-a4d8-b323c1481943
\.
COPY public.groups (id, owner_id, name, created_at) FROM stdin;
766850c0-0020-4266-b687-ffe52f3dce5b	b78cadbf-218c-41a0-9c77-53003a5a152d	editors	2026-11-24 22:35:13.527544+00
\.
COPY public.idempotency (owner_id, key, request_hash, run_id, created_at) FROM stdin;
\.
COPY public.outbox (id, run_id, subject, body, at) FROM stdin;
\.
COPY public.owners (id, name, created_at) FROM stdin;
b78cadbf-218c-41a0-9c77-53003a5a152d	dev	2026-11-24 22:35:13.519125+00
\.
COPY public.principals (id, owner_id, name, kind, roles, subject, disabled_at, created_at) FROM stdin;
a3e37212-7beb-470a-b822-fe28df43188c	b78cadbf-218c-41a0-9c77-53003a5a152d	sam	person	{operator,author,viewer}	\N	\N	2026-11-24 22:35:13.522127+00
1f0ef8f2-e45d-41bf-a4d8-b323c1481943	b78cadbf-218c-41a0-9c77-53003a5a152d	ada	person	{approver,viewer}	\N	\N	2026-11-24 22:35:13.525787+00
5a3a5df3-5279-4976-bff1-f467a06c88c0	b78cadbf-218c-41a0-9c77-53003a5a152d	root	person	{admin}	\N	\N	2026-11-24 22:35:13.53011+00
\.
COPY public.runs_202611 (id, owner_id, template_id, template_name, template_version, status, phase, reason, version, seq, epoch, state, input, output, error, labels, trigger_type, created_by, forked_from, forked_snapshot, created_at, started_at, updated_at, ended_at) FROM stdin;
01a20fb3-0818-77fe-a73b-afca8da6d76c	b78cadbf-218c-41a0-9c77-53003a5a152d	95546b9f-5367-4d3f-8b77-2436b4225e30	gated	1	waiting_approval			2	6	1	{"status":"running","seq":6,"next_no":3,"scopes":{"":{"done":"1","live":{"1":{"no":2,"kind":"approval","path":"gate","status":"waiting_approval","gate":"01a20fb3-0834-7c24-b062-f7e1101efc1a"}}}},"snapshot_seq":5}	{}	\N	\N	{}	api	a3e37212-7beb-470a-b822-fe28df43188c	\N	\N	2026-11-24 22:35:20.986385+00	2026-11-24 22:35:20.986385+00	2026-11-24 22:35:21.013918+00	\N
01a20fb3-086b-790d-a803-e5598b9eda33	b78cadbf-218c-41a0-9c77-53003a5a152d	8ff5cc88-4cf6-4862-8852-a843cec13a45	failed	1	failed		flaky	2	5	1	{"status":"failed","seq":5,"next_no":2,"scopes":{"":{"live":{"0":{"no":1,"kind":"call","path":"work","status":"failed"}}}},"fault":{"code":"FLAKY","message":"attempt 1 fails, as it was asked to","step":"work"},"reason":"flaky"}	{}	\N	{"code":"FLAKY","message":"attempt 1 fails, as it was asked to","step":"work"}	{}	api	a3e37212-7beb-470a-b822-fe28df43188c	\N	\N	2026-11-24 22:35:21.068676+00	2026-11-24 22:35:21.068676+00	2026-11-24 22:35:21.094232+00	2026-11-24 22:35:21.094232+00
01a20fb3-08ba-71c9-95a1-b971c0f38f4b	b78cadbf-218c-41a0-9c77-53003a5a152d	0d3844b6-f43a-44dd-888f-e18ac6c76741	paused	1	paused			2	4	1	{"status":"running","seq":4,"next_no":2,"scopes":{"":{"live":{"0":{"no":1,"kind":"call","path":"work"}}}},"paused_at":1795559721.170945}	{}	\N	\N	{}	api	a3e37212-7beb-470a-b822-fe28df43188c	\N	\N	2026-11-24 22:35:21.147552+00	2026-11-24 22:35:21.147552+00	2026-11-24 22:35:21.170945+00	\N
01a20fb3-08ee-78d5-b572-911e3b2e3660	b78cadbf-218c-41a0-9c77-53003a5a152d	25003bef-3a89-4b32-82c4-10780a3f0249	ready	1	running			1	3	1	{"status":"running","seq":3,"next_no":2,"scopes":{"":{"live":{"0":{"no":1,"kind":"call","path":"work"}}}}}	{}	\N	\N	{}	api	a3e37212-7beb-470a-b822-fe28df43188c	\N	\N	2026-11-24 22:35:21.200171+00	2026-11-24 22:35:21.200171+00	2026-11-24 22:35:21.200171+00	\N
01a20fb3-08fd-7674-a4fd-a62a66784d3c	b78cadbf-218c-41a0-9c77-53003a5a152d	7429faf9-fa2f-4e94-95ba-9276a6a9b2b9	waits	1	running			1	3	1	{"status":"running","seq":3,"next_no":2,"scopes":{"":{"live":{"0":{"no":1,"kind":"wait","path":"rest","status":"waiting","due":1795559726.214679}}}}}	{}	\N	\N	{}	api	a3e37212-7beb-470a-b822-fe28df43188c	\N	\N	2026-11-24 22:35:21.214679+00	2026-11-24 22:35:21.214679+00	2026-11-24 22:35:21.214679+00	\N
\.
COPY public.runs_202612 (id, owner_id, template_id, template_name, template_version, status, phase, reason, version, seq, epoch, state, input, output, error, labels, trigger_type, created_by, forked_from, forked_snapshot, created_at, started_at, updated_at, ended_at) FROM stdin;
\.
COPY public.runs_202701 (id, owner_id, template_id, template_name, template_version, status, phase, reason, version, seq, epoch, state, input, output, error, labels, trigger_type, created_by, forked_from, forked_snapshot, created_at, started_at, updated_at, ended_at) FROM stdin;
\.
COPY public.runs_202702 (id, owner_id, template_id, template_name, template_version, status, phase, reason, version, seq, epoch, state, input, output, error, labels, trigger_type, created_by, forked_from, forked_snapshot, created_at, started_at, updated_at, ended_at) FROM stdin;
\.
COPY public.runs_default (id, owner_id, template_id, template_name, template_version, status, phase, reason, version, seq, epoch, state, input, output, error, labels, trigger_type, created_by, forked_from, forked_snapshot, created_at, started_at, updated_at, ended_at) FROM stdin;
\.
COPY public.sealed_values (run_id, name, ciphertext) FROM stdin;
\.
COPY public.snapshots_202611 (run_id, id, seq, kind, name, state, created_at) FROM stdin;
01a20fb3-0818-77fe-a73b-afca8da6d76c	01a20fb3-0834-7e99-a867-d5489f9ceb7a	5	gate	gate	{"status":"running","seq":5,"next_no":2,"scopes":{"":{"done":"1"}},"snapshot_seq":5}	2026-11-24 22:35:21.013918+00
\.
COPY public.snapshots_202612 (run_id, id, seq, kind, name, state, created_at) FROM stdin;
\.
COPY public.snapshots_202701 (run_id, id, seq, kind, name, state, created_at) FROM stdin;
\.
COPY public.snapshots_202702 (run_id, id, seq, kind, name, state, created_at) FROM stdin;
\.
COPY public.snapshots_default (run_id, id, seq, kind, name, state, created_at) FROM stdin;
\.
COPY public.steps_202611 (run_id, no, path, iteration, visit, kind, status, seq, attempts, max_attempts, lease_losses, input, output, error, executor, gate_id, due_at, created_at, started_at, ended_at) FROM stdin;
01a20fb3-0818-77fe-a73b-afca8da6d76c	1	before		1	call	completed	4	1	3	0	{"handler":"echo","input":{"n":1}}	{"n":1}	\N	node-2dcbd22eec05	\N	\N	2026-11-24 22:35:20.986385+00	2026-11-24 22:35:21.013008+00	2026-11-24 22:35:21.013918+00
01a20fb3-0818-77fe-a73b-afca8da6d76c	2	gate		1	approval	waiting_approval	6	0	1	0	{"title":"Go on?","body":"","payload":null,"policy":{"users":[],"groups":[],"roles":["approver"],"exclude_starter":true},"expires_after":null,"on_expiry":"reject"}	\N	\N		01a20fb3-0834-7c24-b062-f7e1101efc1a	\N	2026-11-24 22:35:21.013918+00	2026-11-24 22:35:21.013918+00	\N
01a20fb3-086b-790d-a803-e5598b9eda33	1	work		1	call	failed	4	1	1	0	{"handler":"flaky","input":{"failures":1}}	\N	{"code":"FLAKY","message":"attempt 1 fails, as it was asked to","step":"work"}	node-2dcbd22eec05	\N	\N	2026-11-24 22:35:21.068676+00	2026-11-24 22:35:21.092833+00	2026-11-24 22:35:21.094232+00
01a20fb3-08fd-7674-a4fd-a62a66784d3c	1	rest		1	wait	waiting	3	0	1	0	{"for":5.0}	\N	\N		\N	2026-11-24 22:35:26.214679+00	2026-11-24 22:35:21.214679+00	2026-11-24 22:35:21.214679+00	\N
\.
COPY public.steps_202612 (run_id, no, path, iteration, visit, kind, status, seq, attempts, max_attempts, lease_losses, input, output, error, executor, gate_id, due_at, created_at, started_at, ended_at) FROM stdin;
\.
COPY public.steps_202701 (run_id, no, path, iteration, visit, kind, status, seq, attempts, max_attempts, lease_losses, input, output, error, executor, gate_id, due_at, created_at, started_at, ended_at) FROM stdin;
\.
COPY public.steps_202702 (run_id, no, path, iteration, visit, kind, status, seq, attempts, max_attempts, lease_losses, input, output, error, executor, gate_id, due_at, created_at, started_at, ended_at) FROM stdin;
\.
COPY public.steps_default (run_id, no, path, iteration, visit, kind, status, seq, attempts, max_attempts, lease_losses, input, output, error, executor, gate_id, due_at, created_at, started_at, ended_at) FROM stdin;
\.
COPY public.template_versions (template_id, version, name, source, published_by, published_at) FROM stdin;
95546b9f-5367-4d3f-8b77-2436b4225e30	1	gated	name: gated\nsteps:\n  - {id: before, call: {handler: echo, input: {n: 1}}}\n  - {id: gate, approval: {title: 'Go on?', approvers: {roles: [approver]}}}\n  - {id: after, call: {handler: echo, input: {n: '${{ steps.before.output.n }}'}}}\n	a3e37212-7beb-470a-b822-fe28df43188c	2026-11-24 22:35:20.724659+00
25003bef-3a89-4b32-82c4-10780a3f0249	1	ready	name: ready\nsteps:\n  - {id: work, call: {handler: sleep, input: {seconds: 1}}}\n  - {id: done, call: {handler: echo, input: {ok: true}}}\n	a3e37212-7beb-470a-b822-fe28df43188c	2026-11-24 22:35:20.764636+00
8ff5cc88-4cf6-4862-8852-a843cec13a45	1	failed	name: failed\nsteps:\n  - {id: work, call: {handler: flaky, input: {failures: 1}}, retry: {max_attempts: 1}}\n	a3e37212-7beb-470a-b822-fe28df43188c	2026-11-24 22:35:20.800162+00
7429faf9-fa2f-4e94-95ba-9276a6a9b2b9	1	waits	name: waits\nsteps:\n  - {id: rest, wait: {for: 5s}}\n  - {id: done, call: {handler: echo, input: {ok: true}}}\n	a3e37212-7beb-470a-b822-fe28df43188c	2026-11-24 22:35:20.902431+00
0d3844b6-f43a-44dd-888f-e18ac6c76741	1	paused	name: paused\nsteps:\n  - {id: work, call: {handler: sleep, input: {seconds: 2}}}\n  - {id: done, call: {handler: echo, input: {ok: true}}}\n	a3e37212-7beb-470a-b822-fe28df43188c	2026-11-24 22:35:20.953327+00
\.
COPY public.templates (id, owner_id, name, draft, latest_version, deprecated_at, created_at, updated_at) FROM stdin;
95546b9f-5367-4d3f-8b77-2436b4225e30	b78cadbf-218c-41a0-9c77-53003a5a152d	gated	name: gated\nsteps:\n  - {id: before, call: {handler: echo, input: {n: 1}}}\n  - {id: gate, approval: {title: 'Go on?', approvers: {roles: [approver]}}}\n  - {id: after, call: {handler: echo, input: {n: '${{ steps.before.output.n }}'}}}\n	1	\N	2026-11-24 22:35:20.687946+00	2026-11-24 22:35:20.722762+00
25003bef-3a89-4b32-82c4-10780a3f0249	b78cadbf-218c-41a0-9c77-53003a5a152d	ready	name: ready\nsteps:\n  - {id: work, call: {handler: sleep, input: {seconds: 1}}}\n  - {id: done, call: {handler: echo, input: {ok: true}}}\n	1	\N	2026-11-24 22:35:20.737922+00	2026-11-24 22:35:20.764284+00
8ff5cc88-4cf6-4862-8852-a843cec13a45	b78cadbf-218c-41a0-9c77-53003a5a152d	failed	name: failed\nsteps:\n  - {id: work, call: {handler: flaky, input: {failures: 1}}, retry: {max_attempts: 1}}\n	1	\N	2026-11-24 22:35:20.778834+00	2026-11-24 22:35:20.799838+00
7429faf9-fa2f-4e94-95ba-9276a6a9b2b9	b78cadbf-218c-41a0-9c77-53003a5a152d	waits	name: waits\nsteps:\n  - {id: rest, wait: {for: 5s}}\n  - {id: done, call: {handler: echo, input: {ok: true}}}\n	1	\N	2026-11-24 22:35:20.81485+00	2026-11-24 22:35:20.902166+00
0d3844b6-f43a-44dd-888f-e18ac6c76741	b78cadbf-218c-41a0-9c77-53003a5a152d	paused	name: paused\nsteps:\n  - {id: work, call: {handler: sleep, input: {seconds: 2}}}\n  - {id: done, call: {handler: echo, input: {ok: true}}}\n	1	\N	2026-11-24 22:35:20.932397+00	2026-11-24 22:35:20.953134+00
\.
COPY public.timers (run_id, no, due_at) FROM stdin;
01a20fb3-08fd-7674-a4fd-a62a66784d3c	1	2026-11-24 22:35:26.214679+00
\.
SELECT pg_catalog.setval('public.outbox_id_seq', 1, false);
ALTER TABLE ONLY public.alembic_version
    ADD CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num);
ALTER TABLE ONLY public.api_keys
    ADD CONSTRAINT api_keys_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.api_keys
    ADD CONSTRAINT api_keys_replaces_key UNIQUE (replaces);
ALTER TABLE ONLY public.dispatch
    ADD CONSTRAINT dispatch_pkey PRIMARY KEY (run_id, no);
ALTER TABLE ONLY public.events
    ADD CONSTRAINT events_pkey PRIMARY KEY (run_id, seq);
ALTER TABLE ONLY public.events_202611
    ADD CONSTRAINT events_202611_pkey PRIMARY KEY (run_id, seq);
ALTER TABLE ONLY public.events_202612
    ADD CONSTRAINT events_202612_pkey PRIMARY KEY (run_id, seq);
ALTER TABLE ONLY public.events_202701
    ADD CONSTRAINT events_202701_pkey PRIMARY KEY (run_id, seq);
ALTER TABLE ONLY public.events_202702
    ADD CONSTRAINT events_202702_pkey PRIMARY KEY (run_id, seq);
ALTER TABLE ONLY public.events_default
    ADD CONSTRAINT events_default_pkey PRIMARY KEY (run_id, seq);
ALTER TABLE ONLY public.executors
    ADD CONSTRAINT executors_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.gates
    ADD CONSTRAINT gates_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.group_members
    ADD CONSTRAINT group_members_pkey PRIMARY KEY (group_id, principal_id);
ALTER TABLE ONLY public.groups
    ADD CONSTRAINT groups_owner_id_name_key UNIQUE (owner_id, name);
ALTER TABLE ONLY public.groups
    ADD CONSTRAINT groups_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.idempotency
    ADD CONSTRAINT idempotency_pkey PRIMARY KEY (owner_id, key);
ALTER TABLE ONLY public.outbox
    ADD CONSTRAINT outbox_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.owners
    ADD CONSTRAINT owners_name_key UNIQUE (name);
ALTER TABLE ONLY public.owners
    ADD CONSTRAINT owners_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.principals
    ADD CONSTRAINT principals_owner_id_name_key UNIQUE (owner_id, name);
ALTER TABLE ONLY public.principals
    ADD CONSTRAINT principals_owner_id_subject_key UNIQUE (owner_id, subject);
ALTER TABLE ONLY public.principals
    ADD CONSTRAINT principals_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.runs
    ADD CONSTRAINT runs_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.runs_202611
    ADD CONSTRAINT runs_202611_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.runs_202612
    ADD CONSTRAINT runs_202612_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.runs_202701
    ADD CONSTRAINT runs_202701_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.runs_202702
    ADD CONSTRAINT runs_202702_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.runs_default
    ADD CONSTRAINT runs_default_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.sealed_values
    ADD CONSTRAINT sealed_values_pkey PRIMARY KEY (run_id, name);
ALTER TABLE ONLY public.snapshots
    ADD CONSTRAINT snapshots_pkey PRIMARY KEY (run_id, id);
ALTER TABLE ONLY public.snapshots_202611
    ADD CONSTRAINT snapshots_202611_pkey PRIMARY KEY (run_id, id);
ALTER TABLE ONLY public.snapshots_202612
    ADD CONSTRAINT snapshots_202612_pkey PRIMARY KEY (run_id, id);
ALTER TABLE ONLY public.snapshots_202701
    ADD CONSTRAINT snapshots_202701_pkey PRIMARY KEY (run_id, id);
ALTER TABLE ONLY public.snapshots_202702
    ADD CONSTRAINT snapshots_202702_pkey PRIMARY KEY (run_id, id);
ALTER TABLE ONLY public.snapshots_default
    ADD CONSTRAINT snapshots_default_pkey PRIMARY KEY (run_id, id);
ALTER TABLE ONLY public.steps
    ADD CONSTRAINT steps_pkey PRIMARY KEY (run_id, no);
ALTER TABLE ONLY public.steps_202611
    ADD CONSTRAINT steps_202611_pkey PRIMARY KEY (run_id, no);
ALTER TABLE ONLY public.steps_202612
    ADD CONSTRAINT steps_202612_pkey PRIMARY KEY (run_id, no);
ALTER TABLE ONLY public.steps_202701
    ADD CONSTRAINT steps_202701_pkey PRIMARY KEY (run_id, no);
ALTER TABLE ONLY public.steps_202702
    ADD CONSTRAINT steps_202702_pkey PRIMARY KEY (run_id, no);
ALTER TABLE ONLY public.steps_default
    ADD CONSTRAINT steps_default_pkey PRIMARY KEY (run_id, no);
ALTER TABLE ONLY public.template_versions
    ADD CONSTRAINT template_versions_pkey PRIMARY KEY (template_id, version);
ALTER TABLE ONLY public.templates
    ADD CONSTRAINT templates_owner_id_name_key UNIQUE (owner_id, name);
ALTER TABLE ONLY public.templates
    ADD CONSTRAINT templates_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.timers
    ADD CONSTRAINT timers_pkey PRIMARY KEY (run_id, no);
CREATE INDEX api_keys_owner ON public.api_keys USING btree (owner_id, created_at DESC);
CREATE INDEX dispatch_executor ON public.dispatch USING btree (executor_id) WHERE (executor_id IS NOT NULL);
CREATE INDEX dispatch_queue_deadline ON public.dispatch USING btree (queue_deadline) WHERE (queue_deadline IS NOT NULL);
CREATE INDEX dispatch_ready ON public.dispatch USING btree (queue, owner_id, priority DESC, available_at) WHERE ((executor_id IS NULL) AND (NOT held));
CREATE INDEX dispatch_total_deadline ON public.dispatch USING btree (total_deadline) WHERE (total_deadline IS NOT NULL);
CREATE INDEX gates_expiry ON public.gates USING btree (expires_at) WHERE ((status = 'open'::text) AND (expires_at IS NOT NULL) AND (held_at IS NULL));
CREATE INDEX gates_inbox ON public.gates USING btree (owner_id, status, created_at);
CREATE INDEX gates_run ON public.gates USING btree (run_id);
CREATE INDEX gates_untold ON public.gates USING btree (decided_at) WHERE ((told_at IS NULL) AND (outcome IS NOT NULL));
CREATE INDEX group_members_principal ON public.group_members USING btree (principal_id);
CREATE INDEX idempotency_age ON public.idempotency USING btree (created_at);
CREATE INDEX runs_labels ON ONLY public.runs USING gin (labels jsonb_path_ops);
CREATE INDEX runs_202611_labels_idx ON public.runs_202611 USING gin (labels jsonb_path_ops);
CREATE INDEX runs_owner ON ONLY public.runs USING btree (owner_id, id DESC);
CREATE INDEX runs_202611_owner_id_id_idx ON public.runs_202611 USING btree (owner_id, id DESC);
CREATE INDEX runs_202612_labels_idx ON public.runs_202612 USING gin (labels jsonb_path_ops);
CREATE INDEX runs_202612_owner_id_id_idx ON public.runs_202612 USING btree (owner_id, id DESC);
CREATE INDEX runs_202701_labels_idx ON public.runs_202701 USING gin (labels jsonb_path_ops);
CREATE INDEX runs_202701_owner_id_id_idx ON public.runs_202701 USING btree (owner_id, id DESC);
CREATE INDEX runs_202702_labels_idx ON public.runs_202702 USING gin (labels jsonb_path_ops);
CREATE INDEX runs_202702_owner_id_id_idx ON public.runs_202702 USING btree (owner_id, id DESC);
CREATE INDEX runs_default_labels_idx ON public.runs_default USING gin (labels jsonb_path_ops);
CREATE INDEX runs_default_owner_id_id_idx ON public.runs_default USING btree (owner_id, id DESC);
CREATE INDEX timers_due ON public.timers USING btree (due_at);
ALTER INDEX public.events_pkey ATTACH PARTITION public.events_202611_pkey;
ALTER INDEX public.events_pkey ATTACH PARTITION public.events_202612_pkey;
ALTER INDEX public.events_pkey ATTACH PARTITION public.events_202701_pkey;
ALTER INDEX public.events_pkey ATTACH PARTITION public.events_202702_pkey;
ALTER INDEX public.events_pkey ATTACH PARTITION public.events_default_pkey;
ALTER INDEX public.runs_labels ATTACH PARTITION public.runs_202611_labels_idx;
ALTER INDEX public.runs_owner ATTACH PARTITION public.runs_202611_owner_id_id_idx;
ALTER INDEX public.runs_pkey ATTACH PARTITION public.runs_202611_pkey;
ALTER INDEX public.runs_labels ATTACH PARTITION public.runs_202612_labels_idx;
ALTER INDEX public.runs_owner ATTACH PARTITION public.runs_202612_owner_id_id_idx;
ALTER INDEX public.runs_pkey ATTACH PARTITION public.runs_202612_pkey;
ALTER INDEX public.runs_labels ATTACH PARTITION public.runs_202701_labels_idx;
ALTER INDEX public.runs_owner ATTACH PARTITION public.runs_202701_owner_id_id_idx;
ALTER INDEX public.runs_pkey ATTACH PARTITION public.runs_202701_pkey;
ALTER INDEX public.runs_labels ATTACH PARTITION public.runs_202702_labels_idx;
ALTER INDEX public.runs_owner ATTACH PARTITION public.runs_202702_owner_id_id_idx;
ALTER INDEX public.runs_pkey ATTACH PARTITION public.runs_202702_pkey;
ALTER INDEX public.runs_labels ATTACH PARTITION public.runs_default_labels_idx;
ALTER INDEX public.runs_owner ATTACH PARTITION public.runs_default_owner_id_id_idx;
ALTER INDEX public.runs_pkey ATTACH PARTITION public.runs_default_pkey;
ALTER INDEX public.snapshots_pkey ATTACH PARTITION public.snapshots_202611_pkey;
ALTER INDEX public.snapshots_pkey ATTACH PARTITION public.snapshots_202612_pkey;
ALTER INDEX public.snapshots_pkey ATTACH PARTITION public.snapshots_202701_pkey;
ALTER INDEX public.snapshots_pkey ATTACH PARTITION public.snapshots_202702_pkey;
ALTER INDEX public.snapshots_pkey ATTACH PARTITION public.snapshots_default_pkey;
ALTER INDEX public.steps_pkey ATTACH PARTITION public.steps_202611_pkey;
ALTER INDEX public.steps_pkey ATTACH PARTITION public.steps_202612_pkey;
ALTER INDEX public.steps_pkey ATTACH PARTITION public.steps_202701_pkey;
ALTER INDEX public.steps_pkey ATTACH PARTITION public.steps_202702_pkey;
ALTER INDEX public.steps_pkey ATTACH PARTITION public.steps_default_pkey;
ALTER TABLE ONLY public.api_keys
    ADD CONSTRAINT api_keys_owner_id_fkey FOREIGN KEY (owner_id) REFERENCES public.owners(id);
ALTER TABLE ONLY public.api_keys
    ADD CONSTRAINT api_keys_principal_id_fkey FOREIGN KEY (principal_id) REFERENCES public.principals(id);
ALTER TABLE ONLY public.api_keys
    ADD CONSTRAINT api_keys_replaces_fkey FOREIGN KEY (replaces) REFERENCES public.api_keys(id);
ALTER TABLE ONLY public.group_members
    ADD CONSTRAINT group_members_group_id_fkey FOREIGN KEY (group_id) REFERENCES public.groups(id) ON DELETE CASCADE;
ALTER TABLE ONLY public.group_members
    ADD CONSTRAINT group_members_principal_id_fkey FOREIGN KEY (principal_id) REFERENCES public.principals(id) ON DELETE CASCADE;
ALTER TABLE ONLY public.groups
    ADD CONSTRAINT groups_owner_id_fkey FOREIGN KEY (owner_id) REFERENCES public.owners(id);
ALTER TABLE ONLY public.principals
    ADD CONSTRAINT principals_owner_id_fkey FOREIGN KEY (owner_id) REFERENCES public.owners(id);
ALTER TABLE ONLY public.template_versions
    ADD CONSTRAINT template_versions_template_id_fkey FOREIGN KEY (template_id) REFERENCES public.templates(id);
ALTER TABLE ONLY public.templates
    ADD CONSTRAINT templates_owner_id_fkey FOREIGN KEY (owner_id) REFERENCES public.owners(id);
