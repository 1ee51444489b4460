#!/bin/sh
# Makes ./mendloopv1 from the protos: generate.sh PROTOS_FOLDER
# Needs protoc (or PROTOC="python -m grpc_tools.protoc") and protoc-gen-go
# (go install google.golang.org/protobuf/cmd/protoc-gen-go@v1.36.12) on the PATH.
set -eu
protos=$1
package=example.com/mendloop-consumer/mendloopv1
names=
for path in "$protos"/mendloop/v1/*.proto; do
  names="$names --go_opt=Mmendloop/v1/$(basename "$path")=$package"
done
# shellcheck disable=SC2086
${PROTOC:-protoc} -I "$protos" --go_out=. --go_opt=module=example.com/mendloop-consumer $names "$protos"/mendloop/v1/*.proto
