"""Child process for tests of `Child`: `ready`, then `done` when its standard input closes, or a failure on demand."""

from runtime.process.child import emit, run_child, stdin_closed


def work(job):
    if job["fail"]:
        raise ValueError(job["fail"])
    emit(event="ready")
    stdin_closed().wait()
    emit(event="done")


if __name__ == "__main__":
    raise SystemExit(run_child(work))
