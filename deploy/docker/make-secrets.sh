#!/bin/sh
# Make the secrets that docker-compose.yml mounts, once: `sh deploy/docker/make-secrets.sh [FOLDER]`.
# What is there stays. The folder is for its owner only. The files in it can be read by everybody who gets
# that far, because Compose mounts a file with the owner it has here and containers run as other users.
set -eu

folder=${1:-var/compose/secrets}
mkdir -p "$folder"
chmod 700 "$folder"

# 32 random bytes as hexadecimal digits: fit for URLs, SQL and configuration files.
random() { od -An -N32 -tx1 /dev/urandom | tr -d ' \n'; }

once() { # NAME TEXT
    [ -s "$folder/$1" ] || printf '%s' "$2" >"$folder/$1.new"
    [ ! -f "$folder/$1.new" ] || { chmod 444 "$folder/$1.new" && mv "$folder/$1.new" "$folder/$1"; }
}

for name in postgres_superuser postgres_replicator postgres_postorder amqp_password api_secret \
    public_secret bounce_secret twilio_token grafana_admin; do
    once "$name" "$(random)"
done
# RabbitMQ reads the user from a piece of configuration: it has no setting that names a file with a password.
once rabbitmq_user.conf "default_user = postorder
default_pass = $(cat "$folder/amqp_password")
default_user_tags.administrator = true
"
echo "secrets are in $folder"
