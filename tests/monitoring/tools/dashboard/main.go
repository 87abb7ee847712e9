// Command dashboard reads a Grafana dashboard from standard input and says where it is not what Grafana's published
// schema allows: unknown fields, wrong types, values out of range, also in the options of panels and in queries.
package main

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/grafana/grafana-foundation-sdk/go/cog"
	"github.com/grafana/grafana-foundation-sdk/go/cog/plugins"
	"github.com/grafana/grafana-foundation-sdk/go/dashboard"
)

func main() {
	if err := check(os.Stdin); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func check(input io.Reader) error {
	text, err := io.ReadAll(input)
	if err != nil {
		return err
	}
	// Without these, panels and queries would be taken as they are.
	plugins.RegisterDefaultPlugins()
	var read dashboard.Dashboard
	if err := some(read.UnmarshalJSONStrict(text)); err != nil {
		return err
	}
	return some(read.Validate())
}

// some is err, unless it is an empty list of errors, which the library returns where it found none.
func some(err error) error {
	var list cog.BuildErrors
	if errors.As(err, &list) && len(list) == 0 {
		return nil
	}
	return err
}
