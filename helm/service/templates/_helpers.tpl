{{/* A Service's name has no dots and begins with a letter; a release's may be v1.2 or 2048. */}}
{{- define "service.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride -}}
{{- else -}}
{{- $name := contains .Chart.Name .Release.Name | ternary .Release.Name (printf "%s-%s" .Release.Name .Chart.Name) -}}
{{- $name = regexReplaceAll "[^a-z0-9-]" (lower $name) "-" -}}
{{- regexMatch "^[0-9]" $name | ternary (printf "release-%s" $name) $name | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* Takes (list $ component). They must never change: a Deployment's selector cannot. */}}
{{- define "service.selector" -}}
{{- $ := index . 0 -}}
app.kubernetes.io/name: {{ $.Chart.Name | quote }}
app.kubernetes.io/instance: {{ $.Release.Name | quote }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end -}}

{{/* Takes (list $ component): of pods, which a new version of the chart alone must not replace. */}}
{{- define "service.podLabels" -}}
{{- $ := index . 0 -}}
{{ include "service.selector" . }}
app.kubernetes.io/version: {{ include "service.version" $ | trunc 63 | quote }}
{{- end -}}

{{/* Takes (list $ component annotations): what the pods of every kind are given. */}}
{{- define "service.podMetadata" -}}
{{- $ := index . 0 -}}
{{- $own := include "service.podLabels" (list $ (index . 1)) | fromYaml -}}
labels: {{- include "service.strings" (merge $own ($.Values.podLabels | default dict)) | nindent 2 }}
{{- with merge (index . 2) ($.Values.podAnnotations | default dict) }}
annotations: {{- include "service.strings" . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* Takes (list $ component). */}}
{{- define "service.labels" -}}
{{- $ := index . 0 -}}
{{ include "service.podLabels" . }}
app.kubernetes.io/managed-by: {{ $.Release.Service | quote }}
helm.sh/chart: {{ printf "%s-%s" $.Chart.Name $.Chart.Version | replace "+" "_" | trunc 63 | quote }}
{{- end -}}

{{/* Takes (list $ component suffix): what every object begins with. */}}
{{- define "service.metadata" -}}
{{- $ := index . 0 -}}
name: {{ printf "%s%s" (include "service.fullname" $) (index . 2) | quote }}
namespace: {{ $.Release.Namespace | quote }}
labels: {{- include "service.labels" (list $ (index . 1)) | nindent 2 }}
{{- end -}}

{{/* Made before the migration and gone after it: the objects of the release do not exist yet. */}}
{{- define "service.hook" -}}
helm.sh/hook: pre-install,pre-upgrade
helm.sh/hook-weight: {{ . | quote }}
helm.sh/hook-delete-policy: before-hook-creation,hook-succeeded
{{- end -}}

{{/* What runs; tags and labels know no plus sign. */}}
{{- define "service.version" -}}
{{- include "service.text" (.Values.image.tag | default .Chart.AppVersion) | replace "+" "-" -}}
{{- end -}}

{{- define "service.image" -}}
{{- $repository := .Values.image.repository | default .Chart.Annotations.image -}}
{{- if .Values.image.digest -}}
{{ $repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ $repository }}:{{ include "service.version" . }}
{{- end -}}
{{- end -}}

{{- define "service.serviceAccountName" -}}
{{- .Values.serviceAccount.name | default (include "service.fullname" .) -}}
{{- end -}}

{{- define "service.databaseSecret" -}}
{{- if .Values.database.url -}}
{{- include "service.fullname" . -}}
{{- else -}}
{{- .Values.database.existingSecret | default (printf "%s-database" (include "service.fullname" .)) -}}
{{- end -}}
{{- end -}}

{{/* A number as people write it: Helm reads 1048576 as 1.048576e+06. */}}
{{- define "service.number" -}}
{{- if eq (float64 .) (floor .) }}{{ int64 . }}{{ else }}{{ . }}{{ end -}}
{{- end -}}

{{/* What is text to Kubernetes and may be a number or a boolean on the command line. */}}
{{- define "service.text" -}}
{{- if kindIs "float64" . }}{{ include "service.number" . }}{{ else }}{{ toString . }}{{ end -}}
{{- end -}}

{{/* Labels, annotations and the like, as YAML. */}}
{{- define "service.strings" -}}
{{- $texts := dict -}}
{{- range $name, $value := . -}}{{- $_ := set $texts $name (include "service.text" $value) -}}{{- end -}}
{{- toYaml $texts -}}
{{- end -}}

{{/* Every setting that values decide, as YAML; app/settings.py reads them. */}}
{{- define "service.managed" -}}
HOST: "*"
PORT: "8000"
METRICS_PORT: "9000"
APP_ENV: production
{{- with .Values.server }}
WEB_CONCURRENCY: {{ include "service.number" .workers | quote }}
WORKER_MEMORY_MIB: {{ include "service.number" .workerMemoryMiB | quote }}
REQUEST_TIMEOUT_SECONDS: {{ include "service.number" .requestTimeoutSeconds | quote }}
MAX_BODY_BYTES: {{ include "service.number" .maxBodyBytes | quote }}
UPLOAD_MIN_BYTES_PER_SECOND: {{ include "service.number" .uploadMinBytesPerSecond | quote }}
WORKER_TIMEOUT_SECONDS: {{ include "service.number" .workerTimeoutSeconds | quote }}
STARTUP_SECONDS: {{ include "service.number" .startupSeconds | quote }}
SHUTDOWN_SECONDS: {{ include "service.number" .shutdownSeconds | quote }}
KEEP_ALIVE_SECONDS: {{ include "service.number" .keepAliveSeconds | quote }}
{{- with .trustedProxies }}
FORWARDED_ALLOW_IPS: {{ join "," . | quote }}
{{- end }}
{{- with .pathPrefix }}
ROOT_PATH: {{ . | quote }}
{{- end }}
{{- end }}
{{- with .Values.processPool }}
PROCESS_POOL_SIZE: {{ include "service.number" .size | quote }}
PROCESS_POOL_MEMORY_MIB: {{ include "service.number" .memoryMiB | quote }}
PROCESS_POOL_WAIT_SECONDS: {{ include "service.number" .waitSeconds | quote }}
PROCESS_POOL_TIMEOUT_SECONDS: {{ include "service.number" .timeoutSeconds | quote }}
{{- end }}
{{- with .Values.httpClient }}
HTTP_CLIENT_POOL_TIMEOUT_SECONDS: {{ include "service.number" .poolTimeoutSeconds | quote }}
HTTP_CLIENT_CONNECT_TIMEOUT_SECONDS: {{ include "service.number" .connectTimeoutSeconds | quote }}
HTTP_CLIENT_TOTAL_TIMEOUT_SECONDS: {{ include "service.number" .totalTimeoutSeconds | quote }}
{{- end }}
{{- with .Values.database }}
DATABASE_POOL_SIZE: {{ include "service.number" .poolSize | quote }}
DATABASE_MAX_OVERFLOW: {{ include "service.number" .maxOverflow | quote }}
DATABASE_POOL_TIMEOUT_SECONDS: {{ include "service.number" .poolTimeoutSeconds | quote }}
DATABASE_STATEMENT_TIMEOUT_MS: {{ include "service.number" .statementTimeoutMs | quote }}
DATABASE_PGBOUNCER: {{ .pgbouncer | default false | quote }}
{{- end }}
{{- with .Values.tracing }}
{{- if .endpoint }}
OTEL_EXPORTER_OTLP_ENDPOINT: {{ .endpoint | quote }}
OTEL_SERVICE_NAME: {{ include "service.fullname" $ | quote }}
OTEL_TRACES_SAMPLER: parentbased_traceidratio
OTEL_TRACES_SAMPLER_ARG: {{ include "service.number" .sampleRatio | quote }}
{{- end }}
{{- end }}
{{- end -}}

{{/* What values decide and what people add; service.check lets them replace OTEL_ variables alone. */}}
{{- define "service.settings" -}}
{{- $settings := include "service.managed" . | fromYaml -}}
{{- range $name, $value := .Values.config -}}{{- $_ := set $settings $name (include "service.text" $value) -}}{{- end -}}
{{- toYaml $settings -}}
{{- end -}}

{{/* Not empty where the platform numbers users and has its DNS on another port. */}}
{{- define "service.openshift" -}}
{{- if or .Values.openshift (.Capabilities.APIVersions.Has "security.openshift.io/v1") }}true{{ end -}}
{{- end -}}

{{- define "service.podSecurityContext" -}}
runAsNonRoot: true
{{- if not (include "service.openshift" .) }}
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
{{- end }}
seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{- define "service.securityContext" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end -}}

{{/* What pods of every kind share. */}}
{{- define "service.podSpec" -}}
automountServiceAccountToken: false
enableServiceLinks: false
securityContext: {{- include "service.podSecurityContext" . | nindent 2 }}
{{- with .Values.imagePullSecrets }}
imagePullSecrets: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.priorityClassName }}
priorityClassName: {{ . | quote }}
{{- end }}
{{- with .Values.nodeSelector }}
nodeSelector: {{- include "service.strings" . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.sidecars }}
# They start before the container that needs them, outlast it, and keep no Job from ending.
initContainers:
  {{- range . }}
  {{- toYaml (list (merge (dict "restartPolicy" "Always") .)) | nindent 2 }}
  {{- end }}
{{- end }}
{{- end -}}

{{/* Of a Job's pod, which is to run on the same nodes as the others. */}}
{{- define "service.jobPodSpec" -}}
{{ include "service.podSpec" . }}
restartPolicy: Never
{{- with (.Values.affinity).nodeAffinity }}
affinity: {nodeAffinity: {{ toJson . }}}
{{- end }}
{{- end -}}

{{- define "service.container" -}}
image: {{ include "service.image" . | quote }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
securityContext: {{- include "service.securityContext" . | nindent 2 }}
{{- end -}}

{{- define "service.resources" -}}
limits: {{- include "service.strings" .Values.resources.limits | nindent 2 }}
requests: {{- include "service.strings" .Values.resources.requests | nindent 2 }}
{{- end -}}

{{/* Takes (list $ secret key): where the database is, and what people add. */}}
{{- define "service.env" -}}
- name: DATABASE_URL
  valueFrom:
    secretKeyRef: {name: {{ index . 1 | quote }}, key: {{ index . 2 | quote }}}
{{- range (index . 0).Values.extraEnv }}
{{ toYaml (list (merge (hasKey . "value" | ternary (dict "value" (include "service.text" .value)) dict) .)) }}
{{- end }}
{{- end -}}

{{- define "service.volumes" -}}
# Metrics and heartbeats: a slow disk must not look like a worker that stands still.
- name: memory
  emptyDir: {medium: Memory, sizeLimit: {{ include "service.number" .Values.memoryVolumeMiB }}Mi}
- name: tmp
  emptyDir: {}
{{- with .Values.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "service.volumeMounts" -}}
- {name: memory, mountPath: /dev/shm}
- {name: tmp, mountPath: /tmp}
{{- with .Values.extraVolumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/*
The number of pods; empty when an autoscaler decides, for any number would undo its decision in a
rollback or a sync. One that the manifest has had cannot go, because Kubernetes then sets it to 1:
a Deployment that is not marked as one without keeps the number that it has now.
*/}}
{{- define "service.replicas" -}}
{{- if .Values.autoscaling.enabled -}}
{{- $found := lookup "apps/v1" "Deployment" .Release.Namespace (include "service.fullname" .) -}}
{{- if and $found (not (dig "metadata" "annotations" "without-replicas" "" $found)) -}}
{{- max (include "service.minReplicas" .) (min (dig "spec" "replicas" 0 $found) (include "service.maxReplicas" .)) -}}
{{- end -}}
{{- else -}}
{{- int .Values.replicas -}}
{{- end -}}
{{- end -}}

{{/* What the database's Secret holds, as far as it can be known. */}}
{{- define "service.secretData" -}}
{{- if .Values.database.url -}}
{{- .Values.database.url -}}
{{- else -}}
{{- $found := lookup "v1" "Secret" .Release.Namespace (include "service.databaseSecret" .) -}}
{{- dig "data" dict $found | toJson -}}
{{- end -}}
{{- end -}}

{{/* Names, the database and what people add: what the migration needs too. */}}
{{- define "service.egress" -}}
- ports: [{port: 53, protocol: UDP}, {port: 53, protocol: TCP}]
{{- if include "service.openshift" . }}
- ports: [{port: 5353, protocol: UDP}, {port: 5353, protocol: TCP}]
{{- end }}
- ports: [{port: {{ .Values.database.port }}, protocol: TCP}]
  {{- with .Values.networkPolicy.databaseTo }}
  to: {{- toYaml . | nindent 4 }}
  {{- end }}
{{- with .Values.networkPolicy.egress }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* Takes (list $ path): where clients find a path of the service. */}}
{{- define "service.path" -}}
{{- printf "%s%s" ((index . 0).Values.server.pathPrefix | default "") (index . 1) | trimSuffix "/" | default "/" -}}
{{- end -}}

{{/* The port of a URL. */}}
{{- define "service.port" -}}
{{- $url := urlParse . -}}
{{- regexFind "[0-9]+$" (regexFind ":[0-9]+$" $url.host) | default (eq $url.scheme "https" | ternary "443" "80") -}}
{{- end -}}

{{/*
A list with a sentence when the database's Secret or a key is not there: pods would wait for it
without a word. Every namespace has an account `default`; where none is seen, no cluster can be asked.
*/}}
{{- define "service.missingSecret" -}}
{{- $told := list -}}
{{- if and (not .Values.database.url) (lookup "v1" "ServiceAccount" .Release.Namespace "default") -}}
{{- $name := include "service.databaseSecret" . -}}
{{- $keys := list .Values.database.urlKey -}}
{{- if .Values.migrations.enabled -}}{{- $keys = append $keys (include "service.migrationKey" .) | uniq -}}{{- end -}}
{{- $found := lookup "v1" "Secret" .Release.Namespace $name -}}
{{- if not $found -}}
{{- $literals := list -}}
{{- range $keys -}}{{- $literals = append $literals (printf "--from-literal %s=postgresql://user:password@host:5432/name" .) -}}{{- end -}}
{{- $create := printf "kubectl create secret generic %s --namespace %s %s" $name .Release.Namespace (join " " $literals) -}}
{{- $told = list (printf "there is no Secret %s in %s that says where the database is: create it (%s), or name another one in database.existingSecret." $name .Release.Namespace $create) -}}
{{- else -}}
{{- range $keys -}}
{{- if not (hasKey (dig "data" dict $found) .) -}}
{{- $told = append $told (printf "the Secret %s in %s has no key %s, which holds an address of the database: add it, or name another key in database.urlKey or database.migrationUrlKey." $name $.Release.Namespace .) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- toJson $told -}}
{{- end -}}

{{/* The key of the address that the migration connects to. */}}
{{- define "service.migrationKey" -}}
{{- .Values.database.migrationUrlKey | default .Values.database.urlKey -}}
{{- end -}}
