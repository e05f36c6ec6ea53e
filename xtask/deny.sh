#!/bin/sh
# Licences, banned crates and sources of everything in the tree. cargo-deny is built once, outside the workspace's own
# target directory if WEIR_TOOLS says where.
set -eu
cd "$(dirname "$0")/.."
tools=${WEIR_TOOLS:-target/tools}
if command -v cargo-deny >/dev/null 2>&1; then
	deny=cargo-deny
else
	deny=$tools/bin/cargo-deny
	if [ ! -x "$deny" ]; then
		echo "building cargo-deny into $tools (once)" >&2
		CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 CARGO_PROFILE_RELEASE_OPT_LEVEL=0 \
			cargo install --quiet --locked --root "$tools" --target-dir "$tools/build" cargo-deny@0.19.9
		rm -rf "$tools/build"
	fi
fi
"$deny" check --hide-inclusion-graph bans licenses sources
