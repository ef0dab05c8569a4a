{{/* Names, labels, and what follows from the values: capabilities, namespaces, the agent's file. */}}

{{- define "remora.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 52 | trimSuffix "-" -}}
{{- end }}

{{/* At most 52 characters, so that what is added for other objects still fits a label. */}}
{{- define "remora.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 52 | trimSuffix "-" -}}
{{- else if contains (include "remora.name" .) .Release.Name -}}
{{- .Release.Name | trunc 52 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "remora.name" .) | trunc 52 | trimSuffix "-" -}}
{{- end -}}
{{- end }}

{{- define "remora.selectorLabels" -}}
app.kubernetes.io/name: {{ include "remora.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{/* Of the agents' pods. Not of the test's: the DaemonSet would take a pod with these for its own. */}}
{{- define "remora.agentLabels" -}}
{{ include "remora.selectorLabels" . }}
app.kubernetes.io/component: agent
{{- end }}

{{- define "remora.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{ include "remora.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{- define "remora.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "remora.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end }}

{{- define "remora.image" -}}
{{- if .Values.image.digest -}}
{{- printf "%s@%s" .Values.image.repository .Values.image.digest -}}
{{- else -}}
{{- printf "%s:%s" .Values.image.repository (default .Chart.AppVersion .Values.image.tag) -}}
{{- end -}}
{{- end }}

{{/* Interfaces of the node are in the node's network. */}}
{{- define "remora.hostNetwork" -}}
{{- if .Values.config.capture.interfaces }}true{{ end -}}
{{- end }}

{{/* Where the kubelet and Prometheus ask. */}}
{{- define "remora.metricsPort" -}}
{{- regexFind "[0-9]+$" .Values.config.metrics.listen -}}
{{- end }}

{{/* The capabilities that the values ask for, and no more; see README.md. */}}
{{- define "remora.capabilities" -}}
{{- $capture := .Values.config.capture -}}
{{- $all := list -}}
{{- if ne $capture.mode "af-packet" -}}
{{- $all = concat $all (list "BPF" "NET_ADMIN") -}}
{{- end -}}
{{- if or (eq $capture.mode "af-packet") (and (eq $capture.mode "auto") (empty $capture.cgroups)) -}}
{{- $all = append $all "NET_RAW" -}}
{{- end -}}
{{- if .Values.processes.gone -}}
{{- $all = append $all "PERFMON" -}}
{{- end -}}
{{- if .Values.processes.older -}}
{{- $all = append $all "SYS_PTRACE" -}}
{{- end -}}
{{- concat $all .Values.securityContext.extraCapabilities | uniq | toJson -}}
{{- end }}

{{/* What runs: the keys that are named, or the folder with all its scripts, which may then come and go. */}}
{{- define "remora.scriptPaths" -}}
{{- $paths := list -}}
{{- range .Values.scripts.existingConfigMap.run -}}
{{- $paths = append $paths (printf "/etc/remora/scripts/%s" .) -}}
{{- end -}}
{{- if and (empty $paths) (include "remora.scriptsConfigMap" .) -}}
{{- $paths = list "/etc/remora/scripts" -}}
{{- end -}}
{{- toJson $paths -}}
{{- end }}

{{- define "remora.scriptsConfigMap" -}}
{{- if .Values.scripts.existingConfigMap.name -}}
{{- .Values.scripts.existingConfigMap.name -}}
{{- else if .Values.scripts.files -}}
{{- printf "%s-scripts" (include "remora.fullname" .) -}}
{{- end -}}
{{- end }}

{{- define "remora.hasEnv" -}}
{{- if or .Values.env.values .Values.env.existingSecret }}true{{ end -}}
{{- end }}

{{/* agent.yaml: the values of `config`, and what the chart knows itself. */}}
{{- define "remora.agentYaml" -}}
{{- $config := deepCopy .Values.config -}}
{{- $scripts := default dict $config.scripts -}}
{{- $_ := set $scripts "paths" (include "remora.scriptPaths" . | fromJsonArray) -}}
{{- $folders := list -}}
{{- if .Values.env.values -}}
{{- $folders = append $folders "/etc/remora/env/chart" -}}
{{- end -}}
{{- if .Values.env.existingSecret -}}
{{- $folders = append $folders "/etc/remora/env/own" -}}
{{- end -}}
{{- $_ := set $scripts "envFiles" $folders -}}
{{- $_ := set $config "scripts" $scripts -}}
{{- $_ := set $config "dataDir" "/var/lib/remora" -}}
{{- $kubernetes := default dict $config.kubernetes -}}
{{- $_ := set $kubernetes "enabled" .Values.kubernetesApi.enabled -}}
{{- $_ := set $config "kubernetes" $kubernetes -}}
{{- if .Values.ca.existingConfigMap -}}
{{- $_ := set $config "caFile" (printf "/etc/remora/ca/%s" .Values.ca.key) -}}
{{- end -}}
{{- toYaml $config -}}
{{- end }}

{{/* Whether only some pods are captured. */}}
{{- define "remora.targeted" -}}
{{- $targets := default dict .Values.config.targets -}}
{{- if or $targets.namespaces $targets.excludedNamespaces $targets.podRegex $targets.labels }}true{{ end -}}
{{- end }}

{{/* The same without what a running agent takes over by itself once the kubelet has brought it the file: other targets, but not
some pods for all, or back. */}}
{{- define "remora.fixedYaml" -}}
{{- $config := include "remora.agentYaml" . | fromYaml -}}
{{- $_ := set $config "capture" (omit $config.capture "ports" "nets" "exclude") -}}
{{- toYaml (set (omit $config "redaction" "targets") "targeted" (include "remora.targeted" .)) -}}
{{- end }}

{{/* What the agent reads, side by side: a folder inside a read-only volume could not be mounted on. */}}
{{- define "remora.configMounts" -}}
- {name: config, mountPath: /etc/remora/config, readOnly: true}
{{- if include "remora.scriptsConfigMap" . }}
- {name: scripts, mountPath: /etc/remora/scripts, readOnly: true}
{{- end }}
{{- if .Values.env.values }}
- {name: env-chart, mountPath: /etc/remora/env/chart, readOnly: true}
{{- end }}
{{- if .Values.env.existingSecret }}
- {name: env-own, mountPath: /etc/remora/env/own, readOnly: true}
{{- end }}
{{- if .Values.ca.existingConfigMap }}
- {name: ca, mountPath: /etc/remora/ca, readOnly: true}
{{- end }}
{{- end }}

{{/* Mode 256 is 0400, which YAML 1.1 and 1.2 read differently. */}}
{{- define "remora.configVolumes" -}}
- name: config
  configMap: {name: {{ include "remora.fullname" . }}}
{{- with include "remora.scriptsConfigMap" . }}
- name: scripts
  configMap: {name: {{ . }}}
{{- end }}
{{- if .Values.env.values }}
- name: env-chart
  secret: {secretName: {{ include "remora.fullname" . }}-env, defaultMode: 256}
{{- end }}
{{- with .Values.env.existingSecret }}
- name: env-own
  secret: {secretName: {{ . }}, defaultMode: 256}
{{- end }}
{{- with .Values.ca.existingConfigMap }}
- name: ca
  configMap: {name: {{ . }}}
{{- end }}
{{- end }}

{{/* Refuses what only several values together make wrong, and the schema cannot say. */}}
{{- define "remora.check" -}}
{{- $capture := .Values.config.capture -}}
{{- if and (empty $capture.cgroups) (empty $capture.interfaces) -}}
{{- fail "config.capture: nothing to capture on: give cgroups or interfaces" -}}
{{- end -}}
{{- if and (eq $capture.mode "af-packet") $capture.cgroups -}}
{{- fail "config.capture.cgroups needs eBPF: with mode af-packet, set cgroups to [] and give interfaces" -}}
{{- end -}}
{{- if regexMatch "^(127\\.|\\[::1\\]|off$)" .Values.config.metrics.listen -}}
{{- fail "config.metrics.listen: the kubelet's probes could not reach that: such as 0.0.0.0:9899" -}}
{{- end -}}
{{- if and .Values.scripts.existingConfigMap.name (or .Values.scripts.files .Values.scripts.modules) -}}
{{- fail "scripts: give files or existingConfigMap, not both" -}}
{{- end -}}
{{- if and .Values.scripts.existingConfigMap.run (not .Values.scripts.existingConfigMap.name) -}}
{{- fail "scripts.existingConfigMap.run: name the ConfigMap, too" -}}
{{- end -}}
{{- if and .Values.scripts.modules (empty .Values.scripts.files) -}}
{{- fail "scripts.modules: there is no script in scripts.files that could import them" -}}
{{- end -}}
{{- if and (not .Values.kubernetesApi.enabled) (include "remora.targeted" .) -}}
{{- fail "config.targets: only the Kubernetes API knows namespaces, names and labels of pods: set kubernetesApi.enabled" -}}
{{- end -}}
{{- if and (include "remora.targeted" .) (empty $capture.cgroups) -}}
{{- fail "config.targets: pods are told apart by their cgroups, and config.capture.cgroups is empty" -}}
{{- end -}}
{{- $token := dig "token" "" (default dict .Values.config.api) -}}
{{- if and $token (not (regexMatch "^\\$\\{[A-Za-z0-9_]+\\}$" $token)) -}}
{{- fail "config.api.token: a token would be in a ConfigMap: give a variable, such as ${REMORA_API_TOKEN}, and that in extraEnv from a Secret" -}}
{{- end -}}
{{- if and .Values.monitoring.podMonitor.enabled .Values.monitoring.serviceMonitor.enabled -}}
{{- fail "monitoring: podMonitor and serviceMonitor would both ask every agent: enable one" -}}
{{- end -}}
{{- if and (eq .Values.securityContext.seccompProfile.type "Localhost") (not .Values.securityContext.seccompProfile.localhostProfile) -}}
{{- fail "securityContext.seccompProfile: Localhost needs localhostProfile" -}}
{{- end -}}
{{- end }}
