#!/bin/sh
# Write .env with a fresh value for every secret that docker-compose.yaml asks for.
set -eu
cd "$(dirname "$0")/.."

if [ -e .env ]; then
    echo ".env exists: delete it to make new secrets (the data of the old ones is then lost)" >&2
    exit 1
fi

# 32 random bytes in URL-safe base64: what a Fernet key must be, and it needs no escaping in a URI.
random() { head -c 32 /dev/urandom | base64 | tr '+/' '-_' | tr -d '\n'; }

umask 077
cat > .env <<EOF
POSTGRES_PASSWORD=$(random)
AIRFLOW_ADMIN_PASSWORD=$(random)
AIRFLOW_FERNET_KEY=$(random)
AIRFLOW_JWT_SECRET=$(random)
AIRFLOW_SECRET_KEY=$(random)
EOF
echo "wrote .env; Airflow's user is admin, its password is AIRFLOW_ADMIN_PASSWORD"
