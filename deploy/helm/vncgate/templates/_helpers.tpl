{{- define "vncgate.name" -}}
{{- if .Values.fullnameOverride }}{{ .Values.fullnameOverride }}
{{- else if contains .Chart.Name .Release.Name }}{{ .Release.Name }}
{{- else }}{{ .Release.Name }}-{{ .Chart.Name }}
{{- end }}
{{- end }}

{{- define "vncgate.labels" -}}
{{ include "vncgate.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}

{{- define "vncgate.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: authority
{{- end }}

{{- define "vncgate.image" -}}
{{ .Values.image.repository }}
{{- with .Values.image.digest }}@{{ . }}{{ else }}:{{ .Values.image.tag | default .Chart.AppVersion }}{{ end }}
{{- end }}

{{- define "vncgate.store" -}}
{{ dig "tokens" "store" "memory" .Values.config }}
{{- end }}

{{- define "vncgate.replicas" -}}
{{- $memory := eq (include "vncgate.store" .) "memory" }}
{{- $replicas := .Values.replicas | default (ternary 1 2 $memory) | int }}
{{- if and $memory (or (gt $replicas 1) .Values.autoscaling.enabled) }}
{{- fail "config.tokens.store is \"memory\", in which a pod knows the tokens of no other one: set config.tokens.store and url for more than one pod" }}
{{- end }}
{{- $replicas }}
{{- end }}

{{/* "http" or "https": what a listener speaks. */}}
{{- define "vncgate.scheme" -}}
{{- ternary "https" "http" (not (empty (dig "listen" (printf "%s_tls" .listener) dict .root.Values.config))) }}
{{- end }}

{{- define "vncgate.probe" -}}
{ path: {{ .path }}, port: metrics, scheme: {{ include "vncgate.scheme" (dict "root" .root "listener" "metrics") | upper }} }
{{- end }}

{{/* Makes whole numbers of the floats that Helm reads from YAML, in place: TOML tells 10000.0 from 10000. */}}
{{- define "vncgate.integers" -}}
{{- $map := . }}
{{- range $key, $value := $map }}
{{- if kindIs "float64" $value }}
{{- if eq $value (floor $value) }}{{ $_ := set $map $key (int64 $value) }}{{ end }}
{{- else if kindIs "map" $value }}
{{- include "vncgate.integers" $value }}
{{- else if kindIs "slice" $value }}
{{- range $value }}{{ if kindIs "map" . }}{{ include "vncgate.integers" . }}{{ end }}{{ end }}
{{- end }}
{{- end }}
{{- end }}

{{/* The authority's configuration file. */}}
{{- define "vncgate.config" -}}
{{- $config := deepCopy .Values.config }}
{{- $listen := dict "public" "0.0.0.0:6082" "internal" "0.0.0.0:6083" "metrics" "0.0.0.0:6085" }}
{{- $_ := set $config "listen" (merge $listen (get $config "listen" | default dict)) }}
{{- include "vncgate.integers" $config }}
{{- toToml $config }}
{{- end }}

{{/* What every pod that reads the configuration has in common; `config` is the name of its ConfigMap. */}}
{{- define "vncgate.volumes" -}}
- name: config
  configMap: { name: {{ .config }} }
{{- range .root.Values.secrets }}
- name: secret-{{ . }}
  secret: { secretName: {{ . }}, defaultMode: 0440 }
{{- end }}
{{- end }}

{{- define "vncgate.mounts" -}}
- { name: config, mountPath: /etc/vncgate, readOnly: true }
{{- range .Values.secrets }}
- { name: secret-{{ . }}, mountPath: /etc/vncgate/secrets/{{ . }}, readOnly: true }
{{- end }}
{{- end }}

{{- define "vncgate.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
seccompProfile: { type: RuntimeDefault }
{{- end }}

{{- define "vncgate.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: { drop: [ALL] }
{{- end }}

{{/* Pods without their Secret would wait without a word. Where Helm only renders, it sees no object at all. */}}
{{- define "vncgate.requireSecrets" -}}
{{- if lookup "v1" "ServiceAccount" .Release.Namespace "default" }}
{{- range .Values.secrets }}
{{- if not (lookup "v1" "Secret" $.Release.Namespace .) }}
{{- fail (printf "there is no Secret %s in the namespace %s: create it first, or take it out of `secrets`" . $.Release.Namespace) }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}

{{/* What is not the gateway's side of a listener's TLS would end in refusals of every console. */}}
{{- define "vncgate.requireGatewayTls" -}}
{{- $gateway := .Values.gateway }}
{{- $listen := .Values.config.listen | default dict }}
{{- if $listen.public_tls }}
{{- fail (printf "config.listen.public_tls: a gateway of the kind %q asks the public listener without TLS; leave it out" $gateway.kind) }}
{{- end }}
{{- $secret := and (eq $gateway.kind "envoy-gateway") $gateway.envoyGateway.clientTlsSecret }}
{{- if and $listen.internal_tls (not $secret) }}
{{- $instead := ternary "set gateway.istio.mutualTls in its place" "set gateway.envoyGateway.clientTlsSecret too" (eq $gateway.kind "istio") }}
{{- fail (printf "config.listen.internal_tls: the gateway has no certificate to show; %s" $instead) }}
{{- end }}
{{- if and $secret (not $listen.internal_tls) }}
{{- fail "gateway.envoyGateway.clientTlsSecret: the authority asks for no certificate; set config.listen.internal_tls too" }}
{{- end }}
{{- end }}

{{/* The ConfigMap beside the Secret that the gateway's Envoy shows the authority. Releases of several namespaces share its one. */}}
{{- define "vncgate.clientTls" -}}
{{ include "vncgate.name" . }}-{{ .Release.Namespace }}-client-tls
{{- end }}

{{/* `provider.kubernetes` of an EnvoyProxy, with the certificate for the authority where the files of mutual-tls look for it. */}}
{{- define "vncgate.envoyWithCertificate" -}}
{{- $deployment := dig "envoyDeployment" dict .provider }}
{{- $pod := dig "pod" dict $deployment }}
{{- $container := dig "container" dict $deployment }}
{{- $name := "vncgate-client-tls" }}
{{- $secret := dict "secret" (dict "name" .root.Values.gateway.envoyGateway.clientTlsSecret) }}
{{- $sds := dict "configMap" (dict "name" (include "vncgate.clientTls" .root)) }}
{{- $volume := dict "name" $name "projected" (dict "sources" (list $secret $sds)) }}
{{- $mount := dict "name" $name "mountPath" "/etc/envoy/authority" "readOnly" true }}
{{- $_ := set $pod "volumes" (append ($pod.volumes | default list) $volume) }}
{{- $_ := set $container "volumeMounts" (append ($container.volumeMounts | default list) $mount) }}
{{- $_ := set $deployment "pod" $pod }}
{{- $_ := set $deployment "container" $container }}
{{- toJson (set .provider "envoyDeployment" $deployment) }}
{{- end }}

{{/* The labels of Istio's gateway, as `kubectl --selector` takes them. */}}
{{- define "vncgate.istioSelector" -}}
{{- $labels := list }}
{{- range $key, $value := .Values.gateway.istio.selector }}{{ $labels = append $labels (printf "%s=%s" $key $value) }}{{ end }}
{{- join "," $labels }}
{{- end }}

{{/* The pods of the gateway, as `from` of a NetworkPolicy has them. */}}
{{- define "vncgate.gatewayPods" -}}
{{- $gateway := .Values.gateway }}
{{- if or $gateway.podSelector $gateway.namespaceSelector -}}
- podSelector: {{- toYaml $gateway.podSelector | nindent 4 }}
  {{- with $gateway.namespaceSelector }}
  namespaceSelector: {{- toYaml . | nindent 4 }}
  {{- end }}
{{- else if eq $gateway.kind "istio" -}}
- podSelector: { matchLabels: {{ toJson $gateway.istio.selector }} }
  namespaceSelector: { matchLabels: { kubernetes.io/metadata.name: {{ $gateway.istio.namespace }} } }
{{- else if eq $gateway.kind "envoy-gateway" -}}
- podSelector:
    matchLabels:
      gateway.envoyproxy.io/owning-gateway-name: vncgate
      gateway.envoyproxy.io/owning-gateway-namespace: {{ .Release.Namespace }}
  namespaceSelector: {}
{{- else }}
{{- fail "gateway.podSelector and gateway.namespaceSelector are empty: say which pods are the gateway's, since they alone may reach the internal listener, or set networkPolicy.enabled to false" }}
{{- end }}
{{- end }}
