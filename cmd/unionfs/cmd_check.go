package main

import (
	"context"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/pflag"

	"github.com/unionfs-go/unionfs/internal/inspect"
)

// checkOptions are the flags of check.
type checkOptions struct {
	subjectOptions
	FailIf []string
	Rules  []string
	Format string
}

// AddFlags declares the flags.
func (o *checkOptions) AddFlags(f *pflag.FlagSet) {
	f.StringArrayVar(&o.FailIf, "fail-if", nil, "a `RULE` under which the check fails; may be repeated")
	f.StringArrayVar(&o.Rules, "rules", nil, "a `FILE` of rules, one a line, # begins a comment; may be repeated")
	f.StringVar(&o.Format, "format", "text", "of the result: text, json or github (annotations of a workflow)")
	o.subjectOptions.AddFlags(f)
}

func newCheckCommand() *command {
	var opts checkOptions
	c := &command{
		name:  "check",
		usage: "--fail-if RULE... [--rules FILE] [--format text|json|github] SUBJECT",
		short: "fail when an image wastes too much or holds what it should not",
		long: `For CI: exit status 1 if one of the rules holds, with the reason and paths. A RULE is
NUMBER OP VALUE, such as 'waste>20MB', 'efficiency<0.95' or 'suid>0'; OP is one of
< > <= >= = !=. The numbers:

` + inspect.MetricsHelp() + subjectHelp,
		flags: newFlagSet("check"),
	}
	opts.AddFlags(c.flags)
	c.run = func(ctx context.Context, std stdio, args []string) error {
		return runCheck(ctx, std, &opts, args)
	}
	return c
}

// checkJSON is what check --json prints.
type checkJSON struct {
	Subject string             `json:"subject"`
	Failed  bool               `json:"failed"`
	Rules   []inspect.Verdict  `json:"rules"`
	Numbers map[string]float64 `json:"numbers"`
}

func runCheck(ctx context.Context, std stdio, opts *checkOptions, args []string) error {
	if len(args) != 1 {
		return usagef("it takes one SUBJECT, not %d", len(args))
	}
	if opts.JSON {
		opts.Format = "json"
	}
	if opts.Format != "text" && opts.Format != "json" && opts.Format != "github" {
		return usagef("no format %q; there are text, json and github", opts.Format)
	}
	rules, err := checkRules(opts)
	if err != nil {
		return err
	}
	m, err := openSubject(ctx, std, &opts.subjectOptions, args[0])
	if err != nil {
		return err
	}
	defer m.Close()
	facts, err := m.Facts(ctx)
	if err != nil {
		return err
	}
	doc := checkJSON{Subject: args[0], Rules: []inspect.Verdict{}, Numbers: facts.Values}
	for _, r := range rules {
		v := r.Judge(facts, humanSize)
		doc.Failed = doc.Failed || v.Failed
		doc.Rules = append(doc.Rules, v)
	}
	switch opts.Format {
	case "json":
		err = printJSON(std.out, doc)
	case "github":
		err = printAnnotations(std, &doc)
	default:
		err = printVerdicts(std, &doc)
	}
	if err == nil && doc.Failed {
		err = &silentError{exitFailure}
	}
	return err
}

// checkRules gathers the rules of the flags.
func checkRules(opts *checkOptions) ([]inspect.Rule, error) {
	var rules []inspect.Rule
	for _, text := range opts.FailIf {
		r, err := inspect.ParseRule(text)
		if err != nil {
			return nil, usagef("%v; see unionfs check --help", err)
		}
		rules = append(rules, r)
	}
	for _, name := range opts.Rules {
		text, err := os.ReadFile(name)
		if err != nil {
			return nil, refusef("read rules: %w", err)
		}
		more, err := inspect.ParseRules(string(text))
		if err != nil {
			return nil, refusef("%s: %w", name, err)
		}
		rules = append(rules, more...)
	}
	if len(rules) == 0 {
		return nil, usagef("no rules: give --fail-if or --rules")
	}
	return rules, nil
}

func printVerdicts(std stdio, doc *checkJSON) error {
	p := newPainter(std.out)
	for _, v := range doc.Rules {
		word := p.paint(green, "ok  ")
		if v.Failed {
			word = p.paint(red, "FAIL")
		}
		if _, err := fmt.Fprintf(std.out, "%s  %-24s %s\n", word, v.Rule, v.Reason); err != nil {
			return err
		}
		for _, path := range v.Examples {
			fmt.Fprintf(std.out, "        %s\n", printable(path))
		}
	}
	return nil
}

// printAnnotations writes workflow commands of GitHub Actions.
func printAnnotations(std stdio, doc *checkJSON) error {
	escape := strings.NewReplacer("%", "%25", "\r", "%0D", "\n", "%0A")
	property := strings.NewReplacer("%", "%25", "\r", "%0D", "\n", "%0A", ":", "%3A", ",", "%2C")
	for _, v := range doc.Rules {
		kind, msg := "notice", doc.Subject+": "+v.Reason
		if v.Failed {
			kind = "error"
			for _, path := range v.Examples {
				msg += "\n" + path
			}
		}
		if _, err := fmt.Fprintf(std.out, "::%s title=%s::%s\n", kind, property.Replace("unionfs check "+v.Rule), escape.Replace(msg)); err != nil {
			return err
		}
	}
	return nil
}
