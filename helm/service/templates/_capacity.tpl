{{/*
The contract: pools, workers, replicas, memory and times as one arithmetic, as in
app/kit/capacity.py. Each limit is a dict of name, arithmetic, need, have and change;
need must not exceed have.
*/}}
{{- define "service.limits" -}}
{{- $limits := list
  (include "service.limit.connections" . | fromJson)
  (include "service.limit.rollout" . | fromJson)
  (include "service.limit.memory" . | fromJson)
  (include "service.limit.query" . | fromJson)
  (include "service.limit.computation" . | fromJson)
  (include "service.limit.connecting" . | fromJson)
  (include "service.limit.call" . | fromJson)
  (include "service.limit.request" . | fromJson)
  (include "service.limit.shutdown" . | fromJson)
  (include "service.limit.keepAlive" . | fromJson)
  (include "service.limit.startupProbe" . | fromJson)
  (include "service.limit.livenessProbe" . | fromJson)
  (include "service.limit.readinessProbe" . | fromJson) -}}
{{- if .Values.autoscaling.enabled -}}
{{- $limits = append $limits (include "service.limit.replicas" . | fromJson) -}}
{{- end -}}
{{- dict "limits" $limits | toJson -}}
{{- end -}}

{{/* Stops the release with a message for each limit that is broken. */}}
{{- define "service.check" -}}
{{- $broken := list -}}
{{- range (include "service.limits" . | fromJson).limits -}}
{{- if gt (float64 .need) (float64 .have) -}}
{{- $sum := printf "%s: %s = %s > %s" .name .arithmetic (include "service.number" .need) (include "service.number" .have) -}}
{{- $broken = append $broken (printf "%s; %s." $sum .change) -}}
{{- end -}}
{{- end -}}
{{- $managed := include "service.managed" . | fromYaml -}}
{{- $given := keys (.Values.config | default dict) | sortAlpha -}}
{{- range .Values.extraEnv -}}{{- $given = append $given .name -}}{{- end -}}
{{- range $given -}}
{{- if and (or (hasKey $managed .) (eq . "DATABASE_URL")) (not (hasPrefix "OTEL_" .)) -}}
{{- $broken = append $broken (printf "%s stands in config or extraEnv, but a value of its own decides it, which the sums rest on; remove it there." .) -}}
{{- end -}}
{{- end -}}
{{- $database := .Values.database -}}
{{- if and .Values.migrations.enabled $database.pgbouncer (not $database.migrationUrlKey) -}}
{{- $broken = append $broken "database.pgbouncer is on, and a migration loses its lock there: name the key of PostgreSQL's own address in database.migrationUrlKey, or set migrations.enabled to false." -}}
{{- end -}}
{{- if and $database.url $database.migrationUrlKey -}}
{{- $broken = append $broken "database.migrationUrlKey names a key of a Secret of yours, and database.url makes one with a single address: use database.existingSecret." -}}
{{- end -}}
{{- $broken = concat $broken (include "service.missingSecret" . | fromJsonArray) -}}
{{- if $broken -}}
{{- fail (printf "\n\n%s\n" (join "\n" $broken)) -}}
{{- end -}}
{{- end -}}

{{/* Takes (list amount replicas "up"), or "down": a number or a percentage of the replicas, rounded so. */}}
{{- define "service.pods" -}}
{{- $amount := index . 0 | toString -}}
{{- if hasSuffix "%" $amount -}}
{{- div (add (mul (index . 1) (trimSuffix "%" $amount | int)) (eq (index . 2) "up" | ternary 99 0)) 100 -}}
{{- else -}}
{{- $amount | int -}}
{{- end -}}
{{- end -}}

{{/*
The most pods that are on their way out at once, connections in hand: what the steps of a rollout
within one grace period send away, and never more than there are.
*/}}
{{- define "service.leaving" -}}
{{- $replicas := include "service.maxReplicas" . | int -}}
{{- $pause := int .Values.strategy.minReadySeconds -}}
{{- if $pause -}}
{{- $surge := include "service.pods" (list .Values.strategy.maxSurge $replicas "up") | int -}}
{{- $missing := include "service.pods" (list .Values.strategy.maxUnavailable $replicas "down") | int -}}
{{- $steps := div (sub (add .Values.server.terminationGracePeriodSeconds $pause) 1) $pause -}}
{{- min $replicas (mul (max 1 (add $surge $missing)) $steps) -}}
{{- else -}}
{{- $replicas -}}
{{- end -}}
{{- end -}}

{{- define "service.maxReplicas" -}}
{{- .Values.autoscaling.enabled | default false | ternary .Values.autoscaling.maxReplicas .Values.replicas | int -}}
{{- end -}}

{{- define "service.minReplicas" -}}
{{- .Values.autoscaling.enabled | default false | ternary .Values.autoscaling.minReplicas .Values.replicas | int -}}
{{- end -}}

{{/* A quantity of memory such as 512Mi, in MiB. */}}
{{- define "service.mebibytes" -}}
{{- $units := dict "" 1 "k" 1000 "M" 1000000 "G" 1000000000 "Ki" 1024 "Mi" 1048576 "Gi" 1073741824 -}}
{{- $unit := regexFind "[A-Za-z]*$" . -}}
{{- divf (mulf (trimSuffix $unit . | float64) (get $units $unit)) 1048576 -}}
{{- end -}}

{{- define "service.limit.connections" -}}
{{- $replicas := include "service.maxReplicas" . | int -}}
{{- $surge := include "service.pods" (list .Values.strategy.maxSurge $replicas "up") | int -}}
{{- $workers := int .Values.server.workers -}}
{{- $database := .Values.database -}}
{{- $pool := int $database.poolSize -}}
{{- $overflow := int $database.maxOverflow -}}
{{- $migration := .Values.migrations.enabled | ternary 1 0 -}}
{{- $reserved := int $database.reservedConnections -}}
{{- $leaving := include "service.leaving" . | int -}}
{{- $need := add (mul (add $replicas $surge $leaving) $workers (add $pool $overflow 1)) $migration $reserved -}}
{{- $arithmetic := printf "(%d replicas + %d surge + %d leaving) x %d workers x (%d pool + %d overflow + 1 readiness) + %d migration + %d reserved" $replicas $surge $leaving $workers $pool $overflow $migration $reserved -}}
{{- dict "name" "database connections" "need" $need "have" (int $database.maxConnections) "arithmetic" $arithmetic
  "change" (printf "lower database.poolSize, server.workers, strategy.maxSurge or %s, or raise strategy.minReadySeconds or database.maxConnections with the database's own limit" (.Values.autoscaling.enabled | default false | ternary "autoscaling.maxReplicas" "replicas"))
  | toJson -}}
{{- end -}}

{{/* Percentages are of one pod here: rounding makes them nothing or something. */}}
{{- define "service.limit.rollout" -}}
{{- $surge := include "service.pods" (list .Values.strategy.maxSurge 1 "up") | int -}}
{{- $missing := include "service.pods" (list .Values.strategy.maxUnavailable 1 "up") | int -}}
{{- dict "name" "a rollout takes a step, pods" "need" 1 "have" (add $surge $missing)
  "arithmetic" "one beyond the replicas or one missing"
  "change" "raise strategy.maxSurge or strategy.maxUnavailable"
  | toJson -}}
{{- end -}}

{{- define "service.limit.memory" -}}
{{- $workers := int .Values.server.workers -}}
{{- $worker := float64 .Values.server.workerMemoryMiB -}}
{{- $size := int .Values.processPool.size -}}
{{- $child := float64 .Values.processPool.memoryMiB -}}
{{- /* Measured: master and exporter together hold a share of 56 MiB. */ -}}
{{- $master := 64 -}}
{{- $volume := float64 .Values.memoryVolumeMiB -}}
{{- $need := addf (mulf $workers (addf $worker (mulf $size $child))) $master $volume -}}
{{- $arithmetic := printf "%d workers x (%v + %d x %v process pool) + %d master and exporter + %v memory volume" $workers $worker $size $child $master $volume -}}
{{- dict "name" "memory, MiB" "need" $need "have" (include "service.mebibytes" (include "service.text" .Values.resources.limits.memory) | float64) "arithmetic" $arithmetic
  "change" "lower server.workers, processPool.size or memoryVolumeMiB, or raise resources.limits.memory and resources.requests.memory"
  | toJson -}}
{{- end -}}

{{- define "service.limit.query" -}}
{{- $wait := .Values.database.poolTimeoutSeconds -}}
{{- $statement := divf .Values.database.statementTimeoutMs 1000 -}}
{{- dict "name" "one query within a request, s" "need" (addf $wait $statement) "have" .Values.server.requestTimeoutSeconds
  "arithmetic" (printf "%v pool timeout + %v statement timeout" $wait $statement)
  "change" "lower database.poolTimeoutSeconds or database.statementTimeoutMs, or raise server.requestTimeoutSeconds"
  | toJson -}}
{{- end -}}

{{- define "service.limit.computation" -}}
{{- $pool := .Values.processPool -}}
{{- dict "name" "one computation within a request, s" "need" (addf $pool.waitSeconds $pool.timeoutSeconds) "have" .Values.server.requestTimeoutSeconds
  "arithmetic" (printf "%v wait + %v timeout" $pool.waitSeconds $pool.timeoutSeconds)
  "change" "lower processPool.waitSeconds or processPool.timeoutSeconds, or raise server.requestTimeoutSeconds"
  | toJson -}}
{{- end -}}

{{- define "service.limit.connecting" -}}
{{- $client := .Values.httpClient -}}
{{- dict "name" "one connection within an outbound call, s" "need" (addf $client.poolTimeoutSeconds $client.connectTimeoutSeconds) "have" $client.totalTimeoutSeconds
  "arithmetic" (printf "%v pool timeout + %v connect timeout" $client.poolTimeoutSeconds $client.connectTimeoutSeconds)
  "change" "lower httpClient.poolTimeoutSeconds or httpClient.connectTimeoutSeconds, or raise httpClient.totalTimeoutSeconds"
  | toJson -}}
{{- end -}}

{{- define "service.limit.call" -}}
{{- $total := .Values.httpClient.totalTimeoutSeconds -}}
{{- dict "name" "one outbound call within a request, s" "need" $total "have" .Values.server.requestTimeoutSeconds
  "arithmetic" (printf "%v outbound timeout" $total)
  "change" "lower httpClient.totalTimeoutSeconds or raise server.requestTimeoutSeconds"
  | toJson -}}
{{- end -}}

{{/* A fifth of the shutdown goes to closing clients, at most 5 s, and a tenth to telemetry, at most 2 s. */}}
{{- define "service.limit.request" -}}
{{- $shutdown := .Values.server.shutdownSeconds -}}
{{- $have := subf $shutdown (minf (divf $shutdown 5) 5) (minf (divf $shutdown 10) 2) -}}
{{- $request := .Values.server.requestTimeoutSeconds -}}
{{- $upload := divf .Values.server.maxBodyBytes .Values.server.uploadMinBytesPerSecond -}}
{{- dict "name" "one request within the shutdown, s" "need" (addf $request $upload) "have" $have
  "arithmetic" (printf "%v request timeout + %v upload" $request $upload)
  "change" "lower server.requestTimeoutSeconds or server.maxBodyBytes, or raise server.uploadMinBytesPerSecond or server.shutdownSeconds"
  | toJson -}}
{{- end -}}

{{/* gunicorn reaps its workers within 2 s, and the kubelet and the master need 5 s beside them. */}}
{{- define "service.limit.shutdown" -}}
{{- $server := .Values.server -}}
{{- dict "name" "shutdown within the grace period, s" "need" (add $server.preStopSeconds $server.shutdownSeconds 2 5) "have" $server.terminationGracePeriodSeconds
  "arithmetic" (printf "%v preStop + %v shutdown + 2 reaping + 5 pod" $server.preStopSeconds $server.shutdownSeconds)
  "change" "lower server.preStopSeconds or server.shutdownSeconds, or raise server.terminationGracePeriodSeconds"
  | toJson -}}
{{- end -}}

{{- define "service.limit.keepAlive" -}}
{{- $server := .Values.server -}}
{{- dict "name" "idle connections outlast the proxy, s" "need" (add $server.proxyIdleSeconds 1) "have" $server.keepAliveSeconds
  "arithmetic" (printf "%v at the proxy + 1" $server.proxyIdleSeconds)
  "change" "raise server.keepAliveSeconds, or lower the proxy's idle time and server.proxyIdleSeconds with it"
  | toJson -}}
{{- end -}}

{{- define "service.limit.startupProbe" -}}
{{- $probe := .Values.probes.startup -}}
{{- dict "name" "start-up within its probe, s" "need" (addf .Values.server.startupSeconds 1) "have" (mul $probe.periodSeconds $probe.failureThreshold)
  "arithmetic" (printf "%v start-up + 1" .Values.server.startupSeconds)
  "change" "raise probes.startup.failureThreshold, or lower server.startupSeconds"
  | toJson -}}
{{- end -}}

{{- define "service.limit.livenessProbe" -}}
{{- $probe := .Values.probes.liveness -}}
{{- dict "name" "a stalled worker is replaced before its pod, s" "need" (add .Values.server.workerTimeoutSeconds 1) "have" (mul $probe.periodSeconds $probe.failureThreshold)
  "arithmetic" (printf "%v worker timeout + 1" .Values.server.workerTimeoutSeconds)
  "change" "raise probes.liveness.failureThreshold, or lower server.workerTimeoutSeconds"
  | toJson -}}
{{- end -}}

{{- define "service.limit.readinessProbe" -}}
{{- dict "name" "readiness answers within its probe, s" "need" 3 "have" .Values.probes.readiness.timeoutSeconds
  "arithmetic" "2 for the database + 1"
  "change" "raise probes.readiness.timeoutSeconds"
  | toJson -}}
{{- end -}}

{{- define "service.limit.replicas" -}}
{{- dict "name" "fewest pods within the most" "need" .Values.autoscaling.minReplicas "have" .Values.autoscaling.maxReplicas
  "arithmetic" (printf "%v autoscaling.minReplicas" .Values.autoscaling.minReplicas)
  "change" "lower autoscaling.minReplicas or raise autoscaling.maxReplicas"
  | toJson -}}
{{- end -}}
