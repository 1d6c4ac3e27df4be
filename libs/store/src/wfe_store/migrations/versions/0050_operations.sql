-- W3C traceparent of runs that were started while tracing was on. Written after the commit; losing a row loses nothing.
CREATE TABLE run_traces (
    run_id      uuid PRIMARY KEY,
    traceparent text NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX run_traces_age ON run_traces (created_at);

-- What operators have switched, for all processes: name and who did it. `dispatch.held` while no step is handed out.
CREATE TABLE switches (
    name   text PRIMARY KEY,
    set_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    set_by text NOT NULL,
    reason text NOT NULL DEFAULT ''
);
