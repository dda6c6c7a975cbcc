#!/usr/bin/env bash
# The journey of a newcomer with some hundred images, from a folder to a verdict page: counts the commands that are typed, and the
# seconds until something is said, until the first generated picture, and until the end.
#
#   bash scripts/newcomer.sh my/images [minutes of training, 4 by default]
#
# It works in a new folder below the current one, newcomer-<time>; the figures are in its figures.txt.
set -uo pipefail

images=$(realpath "${1:?give the folder of images: bash scripts/newcomer.sh my/images}")
minutes=${2:-4}
medsynth=${MEDSYNTH:-medsynth}                # MEDSYNTH="python -m medsynth": another installation
folder="newcomer-$(date +%H-%M-%S)"
mkdir "$folder" && cd "$folder" || exit 1

typed=0 slowest=0 failed=0
begun=$(date +%s.%N)

since() { echo "$(date +%s.%N) $1" | awk '{printf "%.1f", $1 - $2}'; }

# Run one command as it is typed; note when it first says something, and keep its output.
enter() {
    local start first log="command-$((++typed)).log"
    start=$(date +%s.%N)
    echo "\$ $*"
    # shellcheck disable=SC2086
    "$@" > "$log" 2>&1 &
    local process=$!
    while [ ! -s "$log" ] && kill -0 "$process" 2>/dev/null; do sleep 0.05; done
    first=$(since "$start")
    slowest=$(echo "$first $slowest" | awk '{print ($1 > $2) ? $1 : $2}')
    while kill -0 "$process" 2>/dev/null; do
        if [ -z "${picture:-}" ] && compgen -G "outputs/*/*/samples/0*.png" > /dev/null; then picture=$(since "$begun"); fi
        sleep 0.2
    done
    wait "$process"
    local code=$?
    # A verdict's "no" is an answer and exits with 1; a command that could not be run says error.
    if grep -q "error:" "$log"; then failed=1; fi
    echo "  first output after $first s, end after $(since "$start") s, exit code $code"
    tail -n 4 "$log" | sed 's/^/  | /'
}

# shellcheck disable=SC2206
program=($medsynth)
enter "${program[@]}" data "$images" out=preview
enter "${program[@]}" start "$images" "minutes=$minutes" run=true
run=$(ls -d outputs/*/* 2>/dev/null | tail -n 1)
enter "${program[@]}" verdict "$run"

{
    echo "images             $(find -L "$images" -type f | wc -l)"
    echo "commands typed     $typed"
    echo "slowest first output, s   $slowest"
    echo "first generated picture, s   ${picture:-none}"
    echo "end, s             $(since "$begun")"
    echo "page               $(ls "$run"/report.html 2>/dev/null || echo none)"
} | tee figures.txt
exit "$failed"
