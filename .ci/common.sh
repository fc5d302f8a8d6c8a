# shellcheck shell=bash
# Sourced by the scripts beside it, which run from the repository's root.
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit

# Prints a command and runs it.
step() {
    printf '\n== %s\n' "$*"
    "$@"
}

# need PROGRAM...: installs Debian's package of the same name for each program that is missing.
need() {
    local program missing=() as_root=()
    for program; do command -v "$program" >/dev/null || missing+=("$program"); done
    if [ ${#missing[@]} -eq 0 ]; then return; fi
    if [ "$(id -u)" -ne 0 ]; then as_root=(sudo -n); fi
    if ! command -v apt-get >/dev/null || ! { "${as_root[@]}" apt-get update -qq &&
        "${as_root[@]}" apt-get install -y -qq --no-install-recommends "${missing[@]}"; }; then
        echo "install ${missing[*]} and try again"
        return 1
    fi
}

# need_cargo COMMAND: installs cargo-COMMAND if it is missing; minutes, once.
need_cargo() {
    if ! command -v "cargo-$1" >/dev/null; then step cargo install --quiet --locked "cargo-$1"; fi
}
