# The five commands that people use here.
.PHONY: install test long check docs demo

install:  ## everything for development; a CPU build of torch first spares gigabytes
	pip install -e '.[dev,export]'

test:  ## all tests that take seconds
	pytest

long:  ## and those that take minutes to hours: kills, soak, slow links, aarch64, overhead, fuzzing
	.ci/long --here

check:  ## lint, format, types
	ruff check
	ruff format --check
	mypy

docs:  ## the site, into site/
	mkdocs build --strict

demo:  ## broker, thin link, sender and receiver on this machine
	edgesem demo
