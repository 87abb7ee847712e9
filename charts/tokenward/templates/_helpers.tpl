{{- define "tokenward.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "tokenward.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" }}
{{- else if contains (include "tokenward.name" .) .Release.Name }}
{{- .Release.Name | trunc 63 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name (include "tokenward.name" .) | trunc 63 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{/* Of roles: releases of one name in several namespaces do not meet, in the cluster or in a namespace that both serve. */}}
{{- define "tokenward.roleName" -}}
{{ include "tokenward.fullname" . }}:{{ .Release.Namespace }}
{{- end }}

{{- define "tokenward.selector" -}}
app.kubernetes.io/name: {{ include "tokenward.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "tokenward.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{ include "tokenward.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{- define "tokenward.serviceAccount" -}}
{{- if .Values.serviceAccount.create }}
{{- default (include "tokenward.fullname" .) .Values.serviceAccount.name }}
{{- else }}
{{- required "serviceAccount.name: name the ServiceAccount that serviceAccount.create=false leaves to you" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{- define "tokenward.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ default .Chart.AppVersion .Values.image.tag }}
{{- end }}
{{- end }}

{{/* The namespaces that are served, as JSON; empty: all. */}}
{{- define "tokenward.namespaces" -}}
{{- if eq .Values.scope.mode "Own" }}
{{- list .Release.Namespace | toJson }}
{{- else if eq .Values.scope.mode "Namespaces" }}
{{- if not .Values.scope.namespaces }}
{{- fail "scope.mode=Namespaces needs scope.namespaces; or set scope.mode=Cluster for all, Own for the release's" }}
{{- end }}
{{- .Values.scope.namespaces | uniq | toJson }}
{{- else }}
{{- if .Values.scope.namespaces }}
{{- fail "scope.namespaces is for scope.mode=Namespaces; with scope.mode=Cluster all are served" }}
{{- end }}
{{- list | toJson }}
{{- end }}
{{- end }}

{{/* What the operator does in a namespace that it serves. deploy/operator-role.yaml says what each is for. */}}
{{- define "tokenward.rules" -}}
- apiGroups: [tokenward.dev]
  resources: [integrationcredentials]
  verbs: [get, list, watch, patch, gate]
- apiGroups: [tokenward.dev]
  resources: [oauthproviders]
  verbs: [list, watch]
- apiGroups: [tokenward.dev]
  resources: [integrationcredentials/status, oauthproviders/status]
  verbs: [patch]
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create, patch]
- apiGroups: [coordination.k8s.io]
  resources: [leases]
  verbs: [get, list, watch, create, update, patch, delete]
- apiGroups: [""]
  resources: [secrets]
  verbs: [get, list, watch, create, update, patch, delete]
{{- end }}


{{/*
Fails where an object that is there once in a cluster belongs to another release that is installed. One that was left by
a release that is gone may be taken over, which Helm asks for by --take-ownership.
Takes a dict: context, object, value (what to disable).
*/}}
{{- define "tokenward.once" -}}
{{- $object := .object }}
{{- $there := lookup $object.apiVersion $object.kind "" $object.metadata.name | default dict }}
{{- $annotations := dig "metadata" "annotations" (dict) $there | default dict }}
{{- $name := index $annotations "meta.helm.sh/release-name" | default "" }}
{{- $namespace := index $annotations "meta.helm.sh/release-namespace" | default "" }}
{{- if and $name (ne (list $name $namespace | toJson) (list .context.Release.Name .context.Release.Namespace | toJson)) }}
{{- $deployments := lookup "apps/v1" "Deployment" $namespace "" | default dict }}
{{- range $deployments.items }}
{{- if and (eq (dig "metadata" "annotations" "meta.helm.sh/release-name" "" .) $name) (contains "tokenward" (dig "metadata" "labels" "helm.sh/chart" "" .)) }}
{{- fail (printf "%s %s is there once in a cluster, and belongs to release %s in namespace %s; set %s=false for this release" $object.kind $object.metadata.name $name $namespace $.value) }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}
