# Credentials: a key file, and a sealed token for each organization.
# shellcheck shell=bash

heading "Credentials"

as_user "$PEMS_CREDENTIAL" keygen "$RUN/keyring" >/dev/null
say "  Key file made: $(stat -c 'mode %a' "$RUN/keyring"), outside the data directory."
for code in RIO PORTARTHUR; do
    say "  $(as_user "$PEMS_CREDENTIAL" set --organization "$code" --url "$FAKE_URL/api" <<<"${TOKEN[$code]}")"
done

wait_for "SELECT state = 'running' FROM pems_worker" || true
expect "the worker is running and can open both credentials" \
    "$(sql "SELECT state || ' ' || (SELECT count(*) FROM pems_credential) FROM pems_worker")" "running 2"
expect "a dump of the database holds no token" \
    "$(as_user pg_dump 2>/dev/null | grep -cF -e "${TOKEN[RIO]}" -e "${TOKEN[PORTARTHUR]}")" 0
