{{- define "sluice.name" -}}
{{- if contains "sluice" .Release.Name }}{{ .Release.Name }}{{ else }}{{ printf "%s-sluice" .Release.Name | trunc 63 | trimSuffix "-" }}{{ end }}
{{- end }}

{{/* What pods are chosen by: of two releases in a namespace neither has the other's. */}}
{{- define "sluice.selector" -}}
app.kubernetes.io/name: {{ include "sluice.name" . }}
{{- end }}

{{- define "sluice.labels" -}}
{{ include "sluice.selector" . }}
app.kubernetes.io/part-of: sluice
{{- end }}

{{/* The labels as a flag takes them. */}}
{{- define "sluice.gatewayLabels" -}}
{{- $pairs := list }}
{{- range $key, $value := .Values.gatewayLabels }}{{ $pairs = append $pairs (printf "%s=%s" $key $value) }}{{ end }}
{{- join "," $pairs }}
{{- end }}

{{/* What is read, and written, wherever documents lie. */}}
{{- define "sluice.documentRules" -}}
- apiGroups: [networking.istio.io]
  resources: [gateways, virtualservices, destinationrules, serviceentries, workloadentries]
  verbs: [get, list, watch]
- apiGroups: [telemetry.istio.io]
  resources: [telemetries]
  verbs: [get, list, watch]
- apiGroups: [""]
  resources: [services, pods, namespaces]
  verbs: [get, list, watch]
- apiGroups: [discovery.k8s.io]
  resources: [endpointslices]
  verbs: [get, list, watch]
{{- if .Values.writeStatus }}
- apiGroups: [networking.istio.io]
  resources: [gateways/status, virtualservices/status]
  verbs: [patch]
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create]
{{- end }}
{{- end }}

{{/* Policies and extensions that Istio's gateway would heed: the gateway says that it does not. */}}
{{- define "sluice.policyRules" -}}
- apiGroups: [security.istio.io]
  resources: [authorizationpolicies, requestauthentications, peerauthentications]
  verbs: [get, list, watch]
- apiGroups: [networking.istio.io]
  resources: [envoyfilters]
  verbs: [get, list, watch]
{{- end }}

{{- define "sluice.subjects" -}}
- kind: ServiceAccount
  name: {{ include "sluice.name" . }}
  namespace: {{ .Release.Namespace }}
{{- end }}
