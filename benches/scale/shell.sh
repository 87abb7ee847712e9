#!/bin/sh
# What people do without an operator: tokens by curl, Secrets by kubectl, again and again, as a CronJob would. Two at a time.
# usage: CLIENT_SECRET=… shell.sh TOKEN_URL NAMESPACE COUNT ROUNDS SECONDS_FROM_ROUND_TO_ROUND
set -eu
export TOKEN_URL="$1" NAMESPACE="$2" KUBECTL="${KUBECTL:-kubectl}"
count=$3 rounds=$4 interval=$5

# The scope tells the provider's log which one it was.
refresh='
set -eu
answer=$(curl -sS --fail -d grant_type=client_credentials -d client_id=demo -d "client_secret=$CLIENT_SECRET" \
    -d "scope=$1" "$TOKEN_URL")
access_token=$(printf %s "$answer" | sed "s/.*\"access_token\":\"\([^\"]*\)\".*/\1/")
expires_in=$(printf %s "$answer" | sed "s/.*\"expires_in\":\([0-9]*\).*/\1/")
"$KUBECTL" -n "$NAMESPACE" create secret generic "$1" --from-literal=access_token="$access_token" \
    --from-literal=expires_in="$expires_in" --dry-run=client -o yaml | "$KUBECTL" -n "$NAMESPACE" apply -f - >/dev/null
'

round=1
while :; do
    start=$(date +%s)
    seq -f 'c%.0f' 0 $((count - 1)) | xargs -P 2 -n 1 sh -c "$refresh" sh
    [ "$round" -lt "$rounds" ] || break
    round=$((round + 1))
    rest=$((start + interval - $(date +%s)))
    [ "$rest" -le 0 ] || sleep "$rest"
done
