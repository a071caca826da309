{{/* Not empty under the name of Envoy Gateway. */}}
{{- define "namesake" -}}
{{ if eq .Values.controllerName "gateway.envoyproxy.io/gatewayclass-controller" }}yes{{ end }}
{{- end }}
