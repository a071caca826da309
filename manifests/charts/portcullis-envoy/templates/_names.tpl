{{/* The Envoys of one Gateway; a release is one Gateway. */}}
{{- define "gateway" -}}
{{ required "gateway.namespace is required: the namespace of the Gateway" .Values.gateway.namespace }}/{{ required "gateway.name is required: the name of the Gateway" .Values.gateway.name }}
{{- end }}

{{- define "labels" -}}
app.kubernetes.io/name: portcullis-envoy
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "secret" -}}
{{ .Values.xds.secretName | default (printf "%s-xds.%s.%s" .Values.xds.instance .Values.gateway.namespace .Values.gateway.name) }}
{{- end }}
