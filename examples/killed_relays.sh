#!/usr/bin/env bash
# Three relays and a broker that are killed at random, while numbered messages pass through them:
#
#   queue --relay with a spool--> stream A --relay--> stream B --relay--> stream C
#
# In the end it counts which numbers were lost, doubled or reordered in stream C. The first relay may lose one
# message with each kill, the one between the queue and its spool. It fails if there is more.
#
#   examples/killed_relays.sh                 3,000 messages and 20 kills; a minute
#   examples/killed_relays.sh 10000 100       more
#
# It needs nats-server, which `sudo apt-get install nats-server` installs; NATS_SERVER names another one.
set -euo pipefail
cd "$(dirname "$0")/.."
messages=${1:-3000} kills=${2:-20}
server=${NATS_SERVER:-nats-server}
if ! command -v "$server" >/dev/null; then
    echo "nats-server is missing. Install it with: sudo apt-get install nats-server" >&2
    exit 2
fi
cargo build --quiet -p aqueduct-cli
aqueduct=${CARGO_TARGET_DIR:-target}/debug/aqueduct

dir=$(mktemp -d) queue=/killed-relays-$$ port=$((20000 + RANDOM % 10000))
at=nats://127.0.0.1:$port
declare -A pid
start() {
    case $1 in
        broker) "$server" -a 127.0.0.1 -p "$port" -js -sd "$dir" -l "$dir/broker.log" & ;;
        relay-1) relay "mq:$queue" "$at/a?stream=A&create=true" --spool "$dir/spool" ;;
        relay-2) relay "$at/a?stream=A&consumer=relay&create=true&ack-wait=1" "$at/b?stream=B&create=true" ;;
        relay-3) relay "$at/b?stream=B&consumer=relay&create=true&ack-wait=1" "$at/c?stream=C&create=true" ;;
    esac
    pid[$1]=$!
}
relay() { "$aqueduct" relay "$@" --wait forever 2>>"$dir/relays.log" & }
stop_all() {
    # SIGKILL, so that nothing is tidied up.
    kill -9 "${pid[@]}" "${sending:-}" 2>/dev/null || true
    wait 2>/dev/null || true
    "$aqueduct" --quiet mq unlink "$queue" 2>/dev/null || true
    rm -rf "$dir"
}
trap stop_all EXIT

# It does not run if the port is taken.
start_broker() {
    : >"$dir/broker.log"
    start broker
    until grep -q 'Server is ready' "$dir/broker.log"; do
        if ! kill -0 "${pid[broker]}" 2>/dev/null; then
            echo "$server does not run on port $port: $(tail -n 1 "$dir/broker.log")" >&2
            exit 1
        fi
        sleep 0.05
    done
}

start_broker
for part in relay-1 relay-2 relay-3; do start "$part"; done
seq "$messages" | while read -r number; do
    echo "$number"
    # Not all at once, so that each kill meets some of them.
    if [ $((number % 100)) = 0 ]; then sleep "$(awk "BEGIN { print $kills * 60 / $messages }")"; fi
done | "$aqueduct" --quiet send "mq:$queue" &
sending=$!

parts=(broker relay-1 relay-2 relay-3) first=0
for ((kill = 1; kill <= kills; kill++)); do
    sleep "0.$((2 + RANDOM % 6))"
    part=${parts[RANDOM % 4]}
    kill -9 "${pid[$part]}"
    wait "${pid[$part]}" 2>/dev/null || true
    if [ "$part" = relay-1 ]; then first=$((first + 1)); fi
    if [ "$part" = broker ]; then start_broker; else start "$part"; fi
    printf 'kill %d of %d: %s\n' "$kill" "$kills" "$part"
done
wait "$sending"
sending=

"$aqueduct" --quiet recv "$at/c?stream=C&consumer=check&create=true" --timeout 5s >"$dir/seen" || true
awk -v messages="$messages" -v may_lose="$first" '
    seen[$1]++ { doubled++; next }
    $1 < highest { reordered++ }
    { highest = $1 > highest ? $1 : highest; count++ }
    END {
        lost = messages - count
        printf "%d messages: %d lost (at most %d may be), %d doubled, %d reordered\n",
            messages, lost, may_lose, doubled, reordered
        exit (lost > may_lose || doubled > 0 || reordered > 0)
    }' "$dir/seen"
