# Recipes call the scripts in .ci, which work without just as well.

# List the recipes
default:
    @just --list --unsorted

# Quick check of a change: two minutes once the dependencies are built
check:
    .ci/check

# All tests; a few minutes
test *ARGS:
    cargo test {{ARGS}}

# One module of the integration tests, such as `just suite fifo`
suite *ARGS:
    cargo test --test suite {{ARGS}}

# Documentation of the library, in a browser
doc:
    cargo doc -p aqueduct --no-deps --all-features --open

# Write the list of the public API anew
api:
    .ci/api --write

# Format the code
fmt:
    cargo fmt --all

# Parts of the long tests, or all; about an hour
long *PARTS:
    .ci/long {{PARTS}}

# All that CI runs
ci:
    .ci/run

# Kill, stop and cut off processes for a minute
soak *ARGS:
    cargo run --release -p aqueduct-soak -- {{ARGS}}

# Fuzz each target for so many seconds; needs nightly
fuzz SECONDS="60" *TARGETS:
    fuzz/run {{SECONDS}} {{TARGETS}}

# Benchmarks, such as `just bench --quick`
bench *ARGS:
    cargo run --release -p aqueduct-bench -- {{ARGS}}
