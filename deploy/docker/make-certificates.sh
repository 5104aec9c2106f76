#!/bin/sh
# Make a certificate authority of this installation's own and one certificate of it, once:
#     make-certificates CA_FOLDER TLS_FOLDER NAME...
# CA_FOLDER gets ca.crt, which clients trust. TLS_FOLDER gets server.crt and server.key for the names. The
# authority's key is thrown away: nothing else can ever be signed with it. Both are made anew when a name is missing,
# and in the last 30 days; or empty TLS_FOLDER.
set -eu

ca=$1 tls=$2
shift 2
days=825

holds_every_name() {
    for name; do
        openssl verify -CAfile "$ca/ca.crt" -verify_hostname "$name" "$tls/server.crt" >/dev/null 2>&1 || return 1
    done
}

if [ -s "$tls/server.key" ] && openssl x509 -checkend 2592000 -noout -in "$tls/server.crt" >/dev/null &&
    holds_every_name "$@"; then
    echo "certificates are there"
    exit 0
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT INT TERM
umask 077
names=$(printf 'DNS:%s,' "$@")

openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -noenc -days "$days" -subj '/CN=Postorder compose CA' \
    -addext 'basicConstraints=critical,CA:TRUE,pathlen:0' -addext 'keyUsage=critical,keyCertSign' \
    -keyout "$work/ca.key" -out "$work/ca.crt" 2>/dev/null
openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -noenc -subj "/CN=$1" \
    -keyout "$work/server.key" -out "$work/server.csr" 2>/dev/null
printf 'subjectAltName=%s\nextendedKeyUsage=serverAuth\nbasicConstraints=critical,CA:FALSE\n' "${names%,}" >"$work/ext"
openssl x509 -req -in "$work/server.csr" -CA "$work/ca.crt" -CAkey "$work/ca.key" -days "$days" \
    -extfile "$work/ext" -out "$work/server.crt" 2>/dev/null

# The key goes last: it is what tells that everything is there.
cp "$work/ca.crt" "$ca/ca.crt" && chmod 444 "$ca/ca.crt"
cp "$work/server.crt" "$tls/server.crt" && chmod 444 "$tls/server.crt"
rm -f "$tls/server.key" && cp "$work/server.key" "$tls/server.key" && chmod 400 "$tls/server.key"
echo "certificates were made for: $*"
