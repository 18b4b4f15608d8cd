// Command sluice-prometheus judges what the gateway exports, and the rules and queries that are held against it, by
// Prometheus' own parsers.
//
//	sluice-prometheus metrics           the text format on standard input: as `promtool check metrics`
//	sluice-prometheus openmetrics       OpenMetrics on standard input
//	sluice-prometheus rules FILE...     as `promtool check rules`; prints what each expression asks for
//	sluice-prometheus queries           an expression a line on standard input; prints what each asks for
package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/rulefmt"
	"github.com/prometheus/prometheus/model/textparse"
	"github.com/prometheus/prometheus/promql/parser"
)

// asked is what an expression wants of one metric.
type asked struct {
	Expression string   `json:"expression"`
	Metric     string   `json:"metric"`
	Labels     []string `json:"labels"`
}

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(arguments []string) error {
	if len(arguments) == 0 {
		return errors.New("wanted: metrics, openmetrics, rules or queries")
	}
	switch arguments[0] {
	case "metrics":
		return metrics(os.Stdin)
	case "openmetrics":
		return openMetrics(os.Stdin)
	case "rules":
		return rules(arguments[1:])
	case "queries":
		return queries(os.Stdin)
	}
	return fmt.Errorf("%s: wanted: metrics, openmetrics, rules or queries", arguments[0])
}

func metrics(input io.Reader) error {
	all, err := io.ReadAll(input)
	if err != nil {
		return err
	}
	parser := expfmt.NewTextParser(model.LegacyValidation)
	families, err := parser.TextToMetricFamilies(reader(all))
	if err != nil {
		return err
	}
	problems, err := promlint.New(reader(all)).Lint()
	if err != nil {
		return err
	}
	for _, problem := range problems {
		fmt.Println(problem.Metric, problem.Text)
	}
	if len(families) == 0 {
		return errors.New("no metric")
	}
	return nil
}

func openMetrics(input io.Reader) error {
	all, err := io.ReadAll(input)
	if err != nil {
		return err
	}
	reading := textparse.NewOpenMetricsParser(all, labels.NewSymbolTable())
	for {
		entry, err := reading.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if entry == textparse.EntrySeries {
			var sample labels.Labels
			reading.Labels(&sample)
			exemplar := exemplarOf(reading)
			if exemplar != "" {
				fmt.Println(sample.Get(labels.MetricName), exemplar)
			}
		}
	}
}

func rules(files []string) error {
	for _, file := range files {
		groups, errs := rulefmt.ParseFile(file, false, model.LegacyValidation, parser.NewParser(parser.Options{}), slog.New(slog.DiscardHandler))
		if len(errs) > 0 {
			return errors.Join(errs...)
		}
		for _, group := range groups.Groups {
			for _, rule := range group.Rules {
				if err := tell(rule.Expr); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

func queries(input io.Reader) error {
	lines := bufio.NewScanner(input)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		if err := tell(lines.Text()); err != nil {
			return err
		}
	}
	return lines.Err()
}
