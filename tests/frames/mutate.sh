#!/usr/bin/env bash
# Takes each rule of frames away in turn and runs the test that must notice: tests/frames/mutations.txt lists them.
# Works on a copy of the tree, so that a run that is broken off leaves nothing behind. Takes about a minute for each rule.
#
#     tests/frames/mutate.sh            all rules
#     tests/frames/mutate.sh shift      those with this word in their name
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
copy=$(mktemp -d)
trap 'rm -rf "$copy"' EXIT
(cd "$root" && git ls-files -z | xargs -0 tar cf -) | tar xf - -C "$copy"
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$root/target}/mutations
run() { (cd "$copy" && INSTA_UPDATE=no cargo test --quiet -p lathe-tests -- "$1" >"$copy/log" 2>&1); }
if ! run frames::; then
    tail -n 30 "$copy/log"
    echo "the tests fail as they are"
    exit 2
fi
survived=0
while IFS='|' read -r name file rest; do
    test_name=$(sed 's/.*| *//' <<<"$rest")
    substitution=${rest%|*}
    name=$(xargs <<<"$name") file=$copy/compiler/src/frames/$(xargs <<<"$file")
    [[ $name == *"${1:-}"* ]] || continue
    cp "$file" "$copy/before"
    perl -0pi -e "$substitution" "$file"
    if cmp -s "$file" "$copy/before"; then
        echo "STALE     $name"
        survived=1
    elif run "$test_name"; then
        echo "SURVIVED  $name ($test_name passes)"
        survived=1
    elif grep -q '^error' "$copy/log" && ! grep -q 'test result' "$copy/log"; then
        echo "BROKEN    $name"
        grep -m 3 -A 5 '^error' "$copy/log"
        survived=1
    else
        echo "noticed   $name ($test_name)"
    fi
    cp "$copy/before" "$file"
done < <(grep -v '^#' "$root/tests/frames/mutations.txt")
exit $survived
