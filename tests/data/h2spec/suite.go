//go:build suite

// Package suite keeps the programs that are built from here among what go.mod names.
package suite

import _ "github.com/summerwind/h2spec/cmd/h2spec"
