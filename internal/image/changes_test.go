package image

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
)

func TestChangesInDockerfileSyntax(t *testing.T) {
	const base = `{"Env":["PATH=/bin","A=old"],"Cmd":["sh"],"Entrypoint":["/e"],"WorkingDir":"/srv","Labels":{"k":"v"},"ExposedPorts":{"80/tcp":{}}}`
	cases := []struct{ change, want string }{
		{`CMD ["a", "b c"]`, `"Cmd":["a","b c"]`},
		{`CMD echo "hi there"`, `"Cmd":["/bin/sh","-c","echo \"hi there\""]`},
		{`cmd []`, `"Entrypoint":["/e"],"WorkingDir"`},
		{`ENTRYPOINT ["/x"]`, `"Entrypoint":["/x"],"WorkingDir"`},
		{"CMD [\"c\"]\nENTRYPOINT [\"/x\"]", `"Entrypoint":["/x"],"Cmd":["c"]`},
		{`ENV A=1 B="two words" C=it\ is D='$A'`, `"Env":["PATH=/bin","A=1","B=two words","C=it is","D=$A"]`},
		{`ENV A new value`, `"A=new value"`},
		{`ENV PATH=$PATH:/x:${A}:${NONE:-d}:${A:+set}:\$A`, `"PATH=/bin:/x:old:d:set:$A"`},
		{`ENV E=`, `"E="`},
		{`EXPOSE 443 53/UDP 8000-8002`, `"ExposedPorts":{"443/tcp":{},"53/udp":{},"80/tcp":{},"8000/tcp":{},"8001/tcp":{},"8002/tcp":{}}`},
		{`LABEL a=b "c d"="e f"`, `"Labels":{"a":"b","c d":"e f","k":"v"}`},
		{`LABEL old style`, `"old":"style"`},
		{`USER www:data`, `"User":"www:data"`},
		{`VOLUME ["/a b", "/c"]`, `"Volumes":{"/a b":{},"/c":{}}`},
		{`VOLUME /a /c`, `"Volumes":{"/a":{},"/c":{}}`},
		{`WORKDIR sub`, `"WorkingDir":"/srv/sub"`},
		{`WORKDIR /a/../b`, `"WorkingDir":"/b"`},
		{`STOPSIGNAL SIGKILL`, `"StopSignal":"SIGKILL"`},
		{`STOPSIGNAL 9`, `"StopSignal":"9"`},
		{`STOPSIGNAL RTMIN+3`, `"StopSignal":"RTMIN+3"`},
		{`ONBUILD RUN make`, `"OnBuild":["RUN make"]`},
		{`HEALTHCHECK NONE`, `"Healthcheck":{"Test":["NONE"]}`},
		{`HEALTHCHECK --interval=5s --retries=3 CMD curl -f x`, `"Healthcheck":{"Test":["CMD-SHELL","curl -f x"],"Interval":5000000000,"Retries":3}`},
		{`HEALTHCHECK CMD ["a"]`, `"Healthcheck":{"Test":["CMD","a"]}`},
		{"ENV A=1 \\\n B=2", `"A=1","B=2"`},
		{"# a comment\n\nUSER x", `"User":"x"`},
	}
	for _, c := range cases {
		var cfg RunConfig
		if err := json.Unmarshal([]byte(base), &cfg); err != nil {
			t.Fatal(err)
		}
		if err := cfg.Apply([]string{c.change}); err != nil {
			t.Errorf("%s: %v", c.change, err)
			continue
		}
		got, err := json.Marshal(cfg)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(got), c.want) {
			t.Errorf("%s: %s, want %s in it", c.change, got, c.want)
		}
	}
}

func TestBadChangesAreExplained(t *testing.T) {
	for change, want := range map[string]string{
		"RUN make":                          "RUN is not a valid change command",
		"COPY a b":                          "not a valid change command",
		"CMD":                               "needs an argument",
		"ENV A":                             "KEY=VALUE",
		"ENV A=1 B":                         "KEY=VALUE",
		"ENV =x":                            "KEY=VALUE",
		`ENV A="x`:                          "quote",
		"ENV A=${x":                         "not closed",
		"ENV A=${x:?e}":                     "not supported",
		"EXPOSE 70000":                      "not a port",
		"EXPOSE 9-8":                        "not a port",
		"EXPOSE 80/icmp":                    "protocol",
		"USER a b":                          "one argument",
		"STOPSIGNAL SIGNOTHING":             "not a signal",
		"STOPSIGNAL 99":                     "not a signal",
		"ONBUILD FROM x":                    "not allowed",
		"HEALTHCHECK make":                  "HEALTHCHECK NONE",
		"HEALTHCHECK --interval=soon CMD x": "duration",
		"HEALTHCHECK --often=1 CMD x":       "unknown flag",
		`VOLUME ["/a",""]`:                  "path",
	} {
		var cfg RunConfig
		err := cfg.Apply([]string{change})
		if !errors.Is(err, ErrChange) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want one with %q", change, err, want)
		}
	}
}

func FuzzApply(f *testing.F) {
	for _, s := range []string{`ENV A=1 B="two"`, `CMD ["a"]`, `LABEL a=${b:-c}`, `EXPOSE 1-3`, `HEALTHCHECK --retries=1 CMD x`, `ENV A='`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, change string) {
		var cfg RunConfig
		if err := cfg.Apply([]string{change}); err == nil {
			return
		} else if !errors.Is(err, ErrChange) {
			t.Errorf("%q: %v", change, err)
		}
	})
}

func TestNamesAreParsed(t *testing.T) {
	const sum = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
	for in, want := range map[string][2]string{
		"app":              {"app:latest", "docker.io/library/app:latest"},
		"app:1":            {"app:1", "docker.io/library/app:1"},
		"team/app:v1.2-rc": {"team/app:v1.2-rc", "docker.io/team/app:v1.2-rc"},
		"localhost/app":    {"localhost/app:latest", "localhost/app:latest"},
		"host:5000/a/b:t":  {"host:5000/a/b:t", "host:5000/a/b:t"},
		"host.example/a":   {"host.example/a:latest", "host.example/a:latest"},
		"app@" + sum:       {"app@" + sum, "docker.io/library/app@" + sum},
		"a__b/c-d.e":       {"a__b/c-d.e:latest", "docker.io/a__b/c-d.e:latest"},
	} {
		r, err := ParseReference(in)
		if err != nil || r.String() != want[0] || r.Full() != want[1] {
			t.Errorf("%s: %s, %s, %v", in, r, r.Full(), err)
		}
	}
	for _, bad := range []string{"", ":1", "App", "a//b", "/a", "a/", "a:", "a b", "-a", "a:" + strings.Repeat("t", 129), "a@sha256:12", "../a", "a@x", strings.Repeat("n", 256)} {
		if r, err := ParseReference(bad); err == nil {
			t.Errorf("%q was read as %+v", bad, r)
		}
	}
}

func FuzzParseReference(f *testing.F) {
	for _, s := range []string{"app:1", "host:5000/a/b@sha256:00", "a__b.c-d"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		r, err := ParseReference(s)
		if err != nil {
			return
		}
		if again, err := ParseReference(r.String()); err != nil || again != r {
			t.Errorf("%q became %q and that %+v, %v", s, r, again, err)
		}
		if full, err := ParseReference(r.Full()); err != nil || full.Full() != r.Full() {
			t.Errorf("the full name of %q is %q, and of that %q, %v", s, r.Full(), full.Full(), err)
		}
	})
}
