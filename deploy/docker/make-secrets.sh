#!/bin/sh
# Makes the secrets of deploy/compose.yaml, once: what is there stays. The folder is for its owner only; the files in it
# are readable, because each container reads its own as a user of its own.
set -eu
umask 077
folder=$(dirname "$0")/../secrets
mkdir -p "$folder"
cd "$folder"

random() {
  head -c 24 /dev/urandom | od -An -tx1 | tr -d ' \n'
}

[ -s redis_password ] || random > redis_password
[ -s grafana_password ] || random > grafana_password
# Prometheus starts without it; `keys add metrics` fills it (docs/deployment.md).
[ -e metrics_key ] || : > metrics_key
digest=$(sha256sum < redis_password | cut -d ' ' -f 1)
# That of an earlier run cannot be written.
rm -f valkey.acl
cat > valkey.acl <<ACL
user default off
user health on nopass -@all +ping
user stocktide on #$digest ~stocktide:* &stocktide:* -@all +@read +@write +@connection +@pubsub -@dangerous +eval +evalsha +info +time +config|get
ACL
chmod 0444 redis_password grafana_password metrics_key valkey.acl
ls "$PWD"
