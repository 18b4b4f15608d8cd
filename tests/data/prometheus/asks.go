package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"

	"github.com/prometheus/prometheus/model/exemplar"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/textparse"
	"github.com/prometheus/prometheus/promql/parser"
)

func reader(all []byte) io.Reader { return bytes.NewReader(all) }

// tell prints, for each metric that an expression asks for, the labels that it expects there: those that it selects by, and
// those that it groups what it has selected by.
func tell(expression string) error {
	tree, err := parser.NewParser(parser.Options{}).ParseExpr(expression)
	if err != nil {
		return fmt.Errorf("%s: %w", expression, err)
	}
	encoder := json.NewEncoder(os.Stdout)
	parser.Inspect(tree, func(node parser.Node, path []parser.Node) error {
		if selector, is := node.(*parser.VectorSelector); is && err == nil {
			err = encoder.Encode(asked{expression, selector.Name, labelsOf(selector, path)})
		}
		return nil
	})
	return err
}

func labelsOf(selector *parser.VectorSelector, path []parser.Node) []string {
	names := []string{}
	add := func(more ...string) {
		for _, name := range more {
			if name != labels.MetricName && !slices.Contains(names, name) {
				names = append(names, name)
			}
		}
	}
	for _, matcher := range selector.LabelMatchers {
		add(matcher.Name)
	}
	for _, node := range path {
		if grouped, is := node.(*parser.AggregateExpr); is && !grouped.Without {
			add(grouped.Grouping...)
		}
	}
	return names
}

func exemplarOf(reading textparse.Parser) string {
	var found exemplar.Exemplar
	if !reading.Exemplar(&found) {
		return ""
	}
	return fmt.Sprintf("%s %g", found.Labels.String(), found.Value)
}
