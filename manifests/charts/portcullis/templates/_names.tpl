{{/* Not empty under the name of Envoy Gateway. */}}
{{- define "portcullis.namesake" -}}
{{ if eq .Values.controllerName "gateway.envoyproxy.io/gatewayclass-controller" }}yes{{ end }}
{{- end }}
