package inspect

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
)

func TestRulesJudge(t *testing.T) {
	m := model(t, `
==
file bin/su data=x mode=04755
file bin/ping data=x x.security.capability=1
file tmp/open data=x mode=0666
wh root/.ssh
wh nothing
==
file root/.ssh/id_rsa size=1000
file keep size=1000
`)
	f, err := m.Facts(context.Background())
	must(t, err)
	for rule, want := range map[string]bool{
		"waste>999": true, "waste > 1kB": false, "waste>=1k": true, "efficiency<0.51": true, "efficiency < 50%": false, "suid>0": true,
		"caps=1": true, "world-writable!=1": false, "secrets>0": true, "useless-whiteouts>0": true, "layers>2": false, "files=4": true,
		"waste-percent>50%": false, "waste-percent>49": true, "deleted=1000": true, "overwritten>0": false, "shipped=2003": true,
	} {
		r, err := ParseRule(rule)
		must(t, err)
		if v := r.Judge(f, func(n int64) string { return fmt.Sprint(n) }); v.Failed != want {
			t.Errorf("%s: failed %v, %s", rule, v.Failed, v.Reason)
		}
	}
	r, err := ParseRule("secrets>0")
	must(t, err)
	if v := r.Judge(f, nil); v.Reason != "secrets is 1, more than 0" || !slices.Equal(v.Examples, []string{"/root/.ssh/id_rsa"}) {
		t.Errorf("%+v", v)
	}
	for _, bad := range []string{"", "waste", "nonsense>1", "waste>many", "suid>5%", "efficiency<x", "waste 5"} {
		if _, err := ParseRule(bad); !errors.Is(err, ErrFilter) {
			t.Errorf("%q: %v", bad, err)
		}
	}
	rules, err := ParseRules("# comment\n\n waste>1MB\nsuid > 0\n")
	if err != nil || len(rules) != 2 {
		t.Errorf("%v %v", rules, err)
	}
}

func TestFind(t *testing.T) {
	m := model(t, `
==
file a/big size=2000 uid=33 gid=7
file a/prog data=x mode=04755
wh a/gone
file a/over size=3
link a/link to=big
==
file a/gone size=5000
file a/over size=4
dir a/sub
file a/sub/cap data=x x.security.capability=1
`)
	for expr, want := range map[string][]string{
		"size>1k":                      {"/a/big"},
		"size>1k state:deleted":        {"/a/gone"},
		"owner:33 group:7":             {"/a/big"},
		"owner:33:8":                   nil,
		"mode:suid":                    {"/a/prog"},
		"mode:4755":                    {"/a/prog"},
		"type:l":                       {"/a/link"},
		"xattr:cap":                    {"/a/sub/cap"},
		"state:overwritten":            {"/a/over"},
		"state:whiteout":               {"/a/gone"},
		"layer:1 type:f":               {"/a/gone", "/a/over", "/a/sub/cap"},
		"layer:1 type:f !state:hidden": {"/a/sub/cap"},
		"b*":                           {"/a/big"},
		"path:/a/sub":                  {"/a/sub", "/a/sub/cap"},
		"name:*o* !type:d size<1Ki":    {"/a/over", "/a/prog"},
	} {
		f, err := ParseFilter([]string{expr})
		must(t, err)
		var got []string
		must(t, m.Search(context.Background(), Root, f, func(v Version) error {
			got = append(got, m.Path(v.Node))
			return nil
		}))
		if !slices.Equal(got, want) {
			t.Errorf("%s: %v, want %v", expr, got, want)
		}
	}
	for _, bad := range []string{"size>x", "size>1q", "mode:9", "owner:root", "type:x", "layer:top", "state:odd", "color:red", "name:", "name:[", "size>1kk"} {
		if _, err := ParseFilter([]string{bad}); !errors.Is(err, ErrFilter) {
			t.Errorf("%s: %v", bad, err)
		}
	}
}
