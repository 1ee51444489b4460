{{/* Names and labels. */}}
{{- define "mendloop.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{- define "mendloop.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else if contains (include "mendloop.name" .) .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "mendloop.name" .) | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* What selects the release's pods; never changes. */}}
{{- define "mendloop.selector" -}}
app.kubernetes.io/name: {{ include "mendloop.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "mendloop.labels" -}}
{{ include "mendloop.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end -}}

{{/* The services in use, as YAML: serviceDefaults under what services.NAME says. */}}
{{- define "mendloop.services" -}}
{{- range $name, $own := .Values.services }}
{{- $service := mustMergeOverwrite (deepCopy $.Values.serviceDefaults) (deepCopy ($own | default dict)) }}
{{- if $service.enabled }}
{{ $name }}:
{{ toYaml $service | indent 2 }}
{{- end }}
{{- end }}
{{- end -}}

{{/* REGISTRY/REPOSITORY/NAME:TAG or @DIGEST of a service. In: root, name, own. */}}
{{- define "mendloop.image" -}}
{{- $all := .root.Values.image -}}
{{- $own := .own -}}
{{- $registry := $own.registry | default $all.registry -}}
{{- $repository := $own.repository | default (printf "%s/%s" $all.repository .name) -}}
{{- $path := ternary $repository (printf "%s/%s" $registry $repository) (empty $registry) -}}
{{- if $own.digest -}}
{{- printf "%s@%s" $path $own.digest -}}
{{- else -}}
{{- printf "%s:%s" $path ($own.tag | default $all.tag | default .root.Chart.AppVersion) -}}
{{- end -}}
{{- end -}}

{{/* Where the brokers are. */}}
{{- define "mendloop.bootstrap" -}}
{{- if .Values.kafka.bootstrapServers -}}
{{- .Values.kafka.bootstrapServers -}}
{{- else if .Values.dev.enabled -}}
{{- include "mendloop.fullname" . }}-kafka:9092
{{- end -}}
{{- end -}}

{{- define "mendloop.claim" -}}
{{- .Values.artifacts.existingClaim | default (ternary (printf "%s-artifacts" (include "mendloop.fullname" .)) "" .Values.dev.enabled) -}}
{{- end -}}

{{- define "mendloop.sealedClaim" -}}
{{- .Values.artifacts.sealedExistingClaim | default (ternary (printf "%s-sealed" (include "mendloop.fullname" .)) "" .Values.dev.enabled) -}}
{{- end -}}

{{- define "mendloop.isSealedReader" -}}
{{- if has . (list "evaluator" "gateway") -}}yes{{- end -}}
{{- end -}}

{{- define "mendloop.keepsSql" -}}
{{- if has . (list "controller" "gateway") -}}yes{{- end -}}
{{- end -}}

{{/* Plain settings of a service, as the data of its ConfigMap. In: root, name, service. */}}
{{- define "mendloop.settings" -}}
{{- $root := .root -}}
{{- $values := $root.Values -}}
{{- $settings := dict
  "MENDLOOP_BUS" (printf "kafka:%s" (include "mendloop.bootstrap" $root))
  "MENDLOOP_ARTIFACTS_URI" ($values.artifacts.uri | default (ternary "file:///artifacts" "" $values.dev.enabled))
  "MENDLOOP_WORK_DIR" "/work"
  "MENDLOOP_METRICS_HOST" "0.0.0.0"
  "MENDLOOP_METRICS_PORT" "9090" -}}
{{- if include "mendloop.isSealedReader" .name -}}
{{- $_ := set $settings "MENDLOOP_SEALED_ARTIFACTS_URI" ($values.artifacts.sealedUri | default (ternary "file:///sealed" "" $values.dev.enabled)) -}}
{{- end -}}
{{- if eq .name "gateway" -}}
{{- $_ := set $settings "MENDLOOP_HOST" "0.0.0.0" -}}
{{- $_ := set $settings "MENDLOOP_PORT" "8080" -}}
{{- $_ := set $settings "MENDLOOP_GRPC_PORT" "8081" -}}
{{- $_ := set $settings "MENDLOOP_ACCESS" "keys" -}}
{{- $hosts := include "mendloop.allowedHosts" $root | fromJsonArray -}}
{{- if $hosts -}}{{- $_ := set $settings "MENDLOOP_ALLOWED_HOSTS" ($hosts | toJson) -}}{{- end -}}
{{- end -}}
{{- if and (eq .name "trainer") (gt (int .service.gpu.count) 1) -}}
{{- $_ := set $settings "MENDLOOP_TRAINER_PROCESSES" (toString .service.gpu.count) -}}
{{- end -}}
{{- if eq .service.kind "jobs" -}}
{{- $_ := set $settings "MENDLOOP_EXIT_WHEN_IDLE_S" (toString .service.scaling.exitWhenIdleS) -}}
{{- end -}}
{{- if $values.tracing.otlpEndpoint -}}{{- $_ := set $settings "MENDLOOP_OTLP_ENDPOINT" $values.tracing.otlpEndpoint -}}{{- end -}}
{{- if $values.artifacts.endpointUrl -}}{{- $_ := set $settings "AWS_ENDPOINT_URL" $values.artifacts.endpointUrl -}}{{- end -}}
{{- if $values.artifacts.region -}}{{- $_ := set $settings "AWS_DEFAULT_REGION" $values.artifacts.region -}}{{- end -}}
{{- toYaml (mustMergeOverwrite $settings (deepCopy $values.config) (deepCopy .service.config)) -}}
{{- end -}}

{{/* Port of tracing.otlpEndpoint, empty without one. */}}
{{- define "mendloop.otlpPort" -}}
{{- with .Values.tracing.otlpEndpoint -}}
{{- $port := regexFind ":[0-9]+$" (urlParse .).host | trimPrefix ":" -}}
{{- $port | default (ternary "443" "80" (hasPrefix "https:" .)) -}}
{{- end -}}
{{- end -}}

{{/* A file of alerts with our base before each runbook, and our labels. In: root, file. */}}
{{- define "mendloop.rules" -}}
{{- $rules := .root.Values.monitoring.rules -}}
{{- $document := fromYaml .file -}}
{{- range $group := $document.groups -}}
{{- range $rule := $group.rules -}}
{{- if hasKey $rule "alert" -}}
{{- if $rules.runbookBase -}}
{{- $_ := set $rule.annotations "runbook_url" (printf "%s/%s" (trimSuffix "/" $rules.runbookBase) $rule.annotations.runbook_url) -}}
{{- end -}}
{{- $_ := set $rule "labels" (mustMergeOverwrite (deepCopy $rules.alertLabels) $rule.labels) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- toYaml $document -}}
{{- end -}}

{{/* Names under which the gateway may be asked, as JSON: none means any. */}}
{{- define "mendloop.allowedHosts" -}}
{{- $gateway := .Values.gateway -}}
{{- $hosts := $gateway.allowedHosts -}}
{{- if $gateway.ingress.enabled -}}{{- $hosts = concat $hosts $gateway.ingress.hosts -}}{{- end -}}
{{- if $gateway.route.enabled -}}{{- $hosts = concat $hosts $gateway.route.hostnames -}}{{- end -}}
{{- if $hosts -}}
{{- $name := printf "%s-gateway" (include "mendloop.fullname" .) -}}
{{- $hosts = concat $hosts (list $name (printf "%s.%s" $name .Release.Namespace) (printf "%s.%s.svc" $name .Release.Namespace)) -}}
{{- end -}}
{{- $hosts | uniq | toJson -}}
{{- end -}}

{{/* MENDLOOP_BUS_OPTIONS: JSON in which Kubernetes replaces $(KAFKA_USERNAME) and $(KAFKA_PASSWORD). */}}
{{- define "mendloop.busOptions" -}}
{{- $kafka := .Values.kafka -}}
{{- $options := dict "security_protocol" $kafka.securityProtocol
  "partition_count" (toString .Values.topics.partitionCount)
  "replication_factor" (toString .Values.topics.replicationFactor) -}}
{{- if hasPrefix "SASL" $kafka.securityProtocol -}}
{{- $_ := set $options "sasl_mechanism" $kafka.saslMechanism -}}
{{- $_ := set $options "sasl_plain_username" "$(KAFKA_USERNAME)" -}}
{{- $_ := set $options "sasl_plain_password" "$(KAFKA_PASSWORD)" -}}
{{- end -}}
{{- if $kafka.caKey -}}{{- $_ := set $options "ssl_cafile" "/etc/mendloop/kafka/ca.crt" -}}{{- end -}}
{{- if $kafka.namePrefix -}}{{- $_ := set $options "name_prefix" $kafka.namePrefix -}}{{- end -}}
{{- mustMergeOverwrite $options (deepCopy $kafka.options) | toJson -}}
{{- end -}}

{{/* Environment with secrets and facts of the pod. In: root, name. */}}
{{- define "mendloop.env" -}}
{{- $values := .root.Values -}}
- name: MENDLOOP_MEMBER
  valueFrom: {fieldRef: {fieldPath: metadata.name}}
- {name: HOME, value: /work}
- {name: TMPDIR, value: /tmp}
- {name: HF_HOME, value: /work/huggingface}
{{- if hasPrefix "SASL" $values.kafka.securityProtocol }}
- name: KAFKA_USERNAME
  valueFrom: {secretKeyRef: {name: {{ $values.kafka.existingSecret | quote }}, key: {{ $values.kafka.usernameKey | quote }}}}
- name: KAFKA_PASSWORD
  valueFrom: {secretKeyRef: {name: {{ $values.kafka.existingSecret | quote }}, key: {{ $values.kafka.passwordKey | quote }}}}
{{- end }}
- name: MENDLOOP_BUS_OPTIONS
  value: {{ include "mendloop.busOptions" .root | quote }}
{{- if include "mendloop.keepsSql" .name }}
- name: MENDLOOP_DATABASE_URL
{{- if $values.database.existingSecret }}
  valueFrom: {secretKeyRef: {name: {{ $values.database.existingSecret | quote }}, key: {{ ternary $values.database.controllerKey $values.database.gatewayKey (eq .name "controller") | quote }}}}
{{- else }}
  value: {{ $values.database.url | default (ternary (printf "postgresql+psycopg://mendloop@%s-postgres/mendloop" (include "mendloop.fullname" .root)) "" $values.dev.enabled) | quote }}
{{- end }}
{{- end }}
{{- $secret := ternary $values.artifacts.sealedExistingSecret $values.artifacts.existingSecret (eq (include "mendloop.isSealedReader" .name) "yes") }}
{{- if $secret }}
- name: AWS_ACCESS_KEY_ID
  valueFrom: {secretKeyRef: {name: {{ $secret | quote }}, key: {{ $values.artifacts.accessKeyIdKey | quote }}}}
- name: AWS_SECRET_ACCESS_KEY
  valueFrom: {secretKeyRef: {name: {{ $secret | quote }}, key: {{ $values.artifacts.secretAccessKeyKey | quote }}}}
{{- end }}
{{- end -}}

{{/* Security of every pod and container of ours. */}}
{{- define "mendloop.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
fsGroupChangePolicy: OnRootMismatch
seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{- define "mendloop.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end -}}

{{/* Requests and limits, with the accelerators among the limits. In: resources, gpu. */}}
{{- define "mendloop.resources" -}}
{{- $resources := deepCopy .resources -}}
{{- if gt (int .gpu.count) 0 -}}
{{- $_ := set $resources "limits" (merge (dict .gpu.resource .gpu.count) ($resources.limits | default dict)) -}}
{{- end -}}
{{- toYaml $resources -}}
{{- end -}}

{{- define "mendloop.volumes" -}}
{{- $values := .root.Values -}}
- name: work
{{- if .service.work.existingClaim }}
  persistentVolumeClaim: {claimName: {{ .service.work.existingClaim | quote }}}
{{- else }}
  emptyDir: {sizeLimit: {{ .service.work.sizeLimit | quote }}}
{{- end }}
- name: tmp
  emptyDir: {}
{{- if .service.shmSize }}
- name: shm
  emptyDir: {medium: Memory, sizeLimit: {{ .service.shmSize | quote }}}
{{- end }}
{{- if $values.kafka.caKey }}
- name: kafka-ca
  secret: {secretName: {{ $values.kafka.existingSecret | quote }}, items: [{key: {{ $values.kafka.caKey | quote }}, path: ca.crt}]}
{{- end }}
{{- with include "mendloop.claim" .root }}
- name: artifacts
  persistentVolumeClaim: {claimName: {{ . | quote }}}
{{- end }}
{{- if include "mendloop.isSealedReader" .name }}
{{- with include "mendloop.sealedClaim" .root }}
- name: sealed
  persistentVolumeClaim: {claimName: {{ . | quote }}}
{{- end }}
{{- end }}
{{- with .service.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "mendloop.mounts" -}}
{{- $values := .root.Values -}}
- {name: work, mountPath: /work{{ if .service.work.existingClaim }}, subPath: {{ .name }}{{ end }}}
- {name: tmp, mountPath: /tmp}
{{- if .service.shmSize }}
- {name: shm, mountPath: /dev/shm}
{{- end }}
{{- if $values.kafka.caKey }}
- {name: kafka-ca, mountPath: /etc/mendloop/kafka, readOnly: true}
{{- end }}
{{- if include "mendloop.claim" .root }}
- {name: artifacts, mountPath: /artifacts}
{{- end }}
{{- if and (include "mendloop.isSealedReader" .name) (include "mendloop.sealedClaim" .root) }}
- {name: sealed, mountPath: /sealed}
{{- end }}
{{- with .service.extraVolumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* The container of a service. In: root, name, service, probes (whether it has any). */}}
{{- define "mendloop.container" -}}
{{- $full := printf "%s-%s" (include "mendloop.fullname" .root) .name -}}
name: {{ .name }}
image: {{ include "mendloop.image" (dict "root" .root "name" .name "own" .service.image) | quote }}
imagePullPolicy: {{ .root.Values.image.pullPolicy }}
command: [python, -m, mendloop.{{ .name | replace "-" "_" }}]
{{- with .service.args }}
args:
{{ toYaml . | indent 2 }}
{{- end }}
envFrom:
  - configMapRef: {name: {{ $full }}}
env:
{{ include "mendloop.env" . | indent 2 }}
{{- with .service.env }}
{{ toYaml . | indent 2 }}
{{- end }}
ports:
  - {name: metrics, containerPort: 9090}
{{- if eq .name "gateway" }}
  - {name: http, containerPort: 8080}
  - {name: grpc, containerPort: 8081}
{{- end }}
{{- if .probes }}
startupProbe:
  httpGet: {path: /healthz, port: metrics}
{{ toYaml .service.probes.startup | indent 2 }}
livenessProbe:
  httpGet: {path: /healthz, port: metrics}
{{ toYaml .service.probes.liveness | indent 2 }}
readinessProbe:
  # The gateway's own page also knows whether it has caught up with the log.
  httpGet: {path: /readyz, port: {{ ternary "http" "metrics" (eq .name "gateway") }}}
{{ toYaml .service.probes.readiness | indent 2 }}
{{- end }}
resources:
{{ include "mendloop.resources" .service | indent 2 }}
securityContext:
{{ include "mendloop.containerSecurity" . | indent 2 }}
volumeMounts:
{{ include "mendloop.mounts" . | indent 2 }}
{{- end -}}

{{/* The pod of a service, as a pod template. In: root, name, service. */}}
{{- define "mendloop.podTemplate" -}}
{{- $full := printf "%s-%s" (include "mendloop.fullname" .root) .name -}}
{{- $service := .service -}}
{{- $isJob := eq $service.kind "jobs" -}}
{{- $root := .root -}}
{{- $name := .name -}}
metadata:
  # Only what selects: a new version of the chart alone restarts no training.
  labels:
{{ include "mendloop.selector" .root | indent 4 }}
    app.kubernetes.io/component: {{ .name }}
{{- with $service.podLabels }}
{{ toYaml . | indent 4 }}
{{- end }}
  annotations:
    checksum/config: {{ include "mendloop.settings" . | sha256sum }}
    kubectl.kubernetes.io/default-container: {{ .name }}
{{- if $isJob }}
    # What consolidates nodes leaves a training alone.
    cluster-autoscaler.kubernetes.io/safe-to-evict: "false"
    karpenter.sh/do-not-disrupt: "true"
{{- end }}
{{- with $service.podAnnotations }}
{{ toYaml . | indent 4 }}
{{- end }}
spec:
  serviceAccountName: {{ $full }}
  automountServiceAccountToken: false
  enableServiceLinks: false
  # Process 1 of a container ignores SIGTERM until it handles it: a pod that still imports its libraries would use up its
  # whole grace period. In a shared namespace the pod's own process is 1.
  shareProcessNamespace: true
{{- if $isJob }}
  restartPolicy: Never
{{- end }}
  terminationGracePeriodSeconds: {{ $service.terminationGracePeriodSeconds }}
{{- with .root.Values.image.pullSecrets }}
  imagePullSecrets:
{{- range . }}
    - name: {{ . | quote }}
{{- end }}
{{- end }}
{{- with $service.priorityClassName }}
  priorityClassName: {{ . | quote }}
{{- end }}
{{- with $service.runtimeClassName }}
  runtimeClassName: {{ . | quote }}
{{- end }}
{{- with $service.nodeSelector }}
  nodeSelector:
{{ toYaml . | indent 4 }}
{{- end }}
{{- with $service.tolerations }}
  tolerations:
{{ toYaml . | indent 4 }}
{{- end }}
{{- with $service.affinity }}
  affinity:
{{ toYaml . | indent 4 }}
{{- end }}
{{- with $service.topologySpreadConstraints }}
  topologySpreadConstraints:
{{- range . }}
{{- $selector := dict "matchLabels" (merge (dict "app.kubernetes.io/component" $name) (include "mendloop.selector" $root | fromYaml)) }}
{{ toYaml (list (merge (deepCopy .) (dict "labelSelector" $selector))) | indent 4 }}
{{- end }}
{{- end }}
  securityContext:
{{ include "mendloop.podSecurity" . | indent 4 }}
{{- with $service.initContainers }}
  initContainers:
{{ toYaml . | indent 4 }}
{{- end }}
  containers:
    -
{{ include "mendloop.container" (merge (dict "probes" true) .) | indent 6 }}
{{- with $service.extraContainers }}
{{ toYaml . | indent 4 }}
{{- end }}
  volumes:
{{ include "mendloop.volumes" . | indent 4 }}
{{- end -}}
