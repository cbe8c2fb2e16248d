{{- define "stocktide.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else if contains (default .Chart.Name .Values.nameOverride) .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (default .Chart.Name .Values.nameOverride) | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end }}

{{- define "stocktide.selector" -}}
app.kubernetes.io/name: {{ default .Chart.Name .Values.nameOverride }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "stocktide.labels" -}}
{{ include "stocktide.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{- define "stocktide.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "stocktide.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end }}

{{- define "stocktide.image" -}}
{{- if .Values.image.digest -}}
{{- printf "%s@%s" .Values.image.repository .Values.image.digest -}}
{{- else -}}
{{- printf "%s:%s" .Values.image.repository (default .Chart.AppVersion .Values.image.tag) -}}
{{- end -}}
{{- end }}

{{- /* What both kinds of pods have in their template's specification. */ -}}
{{- define "stocktide.pod" -}}
serviceAccountName: {{ include "stocktide.serviceAccount" . }}
automountServiceAccountToken: false
enableServiceLinks: false
{{- with .Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
securityContext:
  {{- toYaml .Values.podSecurityContext | nindent 2 }}
{{- end }}

{{- /* Variables of every process: the settings that are no secret come from the ConfigMap, secrets from files. */ -}}
{{- define "stocktide.envFrom" -}}
- configMapRef:
    name: {{ include "stocktide.fullname" . }}
{{- range .Values.settingsSecrets }}
- secretRef:
    name: {{ . }}
{{- end }}
{{- end }}

{{- define "stocktide.fileMounts" -}}
{{- if .Values.mappingsConfigMap }}
- name: mappings
  mountPath: /etc/stocktide/mappings
  readOnly: true
{{- end }}
{{- range $server := list "kafka" "redis" }}
{{- $of := get $.Values $server }}
{{- if $of.passwordSecret }}
- name: {{ $server }}-password
  mountPath: /run/secrets/{{ $server }}
  readOnly: true
{{- end }}
{{- if $of.tlsSecret }}
- name: {{ $server }}-tls
  mountPath: /run/secrets/{{ $server }}-tls
  readOnly: true
{{- end }}
{{- end }}
{{- end }}

{{- define "stocktide.fileVolumes" -}}
{{- if .Values.mappingsConfigMap }}
- name: mappings
  configMap:
    name: {{ .Values.mappingsConfigMap }}
{{- end }}
{{- range $server := list "kafka" "redis" }}
{{- $of := get $.Values $server }}
{{- if $of.passwordSecret }}
- name: {{ $server }}-password
  secret:
    secretName: {{ $of.passwordSecret }}
    defaultMode: 0440
    items: [{ key: password, path: password }]
{{- end }}
{{- if $of.tlsSecret }}
- name: {{ $server }}-tls
  secret:
    secretName: {{ $of.tlsSecret }}
    defaultMode: 0440
{{- end }}
{{- end }}
{{- end }}
