//go:build suite

// Package suite keeps the programs that are built from here among what go.mod names.
package suite

import _ "helm.sh/helm/v3/cmd/helm"
