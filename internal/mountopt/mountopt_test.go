package mountopt

import (
	"reflect"
	"strings"
	"testing"
)

func on() *bool  { v := true; return &v }
func off() *bool { v := false; return &v }

func TestParse(t *testing.T) {
	tests := []struct {
		name string
		in   []string
		want Options
	}{
		{"nothing", nil, Options{}},
		{
			"the three directories",
			[]string{"lowerdir=/a:/b,upperdir=/u,workdir=/w"},
			Options{Lowers: []string{"/a", "/b"}, Upper: "/u", Work: "/w"},
		},
		{
			"repeated -o",
			[]string{"lowerdir=/a", "upperdir=/u", "workdir=/w"},
			Options{Lowers: []string{"/a"}, Upper: "/u", Work: "/w"},
		},
		{"escaped colon stays in the name", []string{`lowerdir=/a\:b:/c`}, Options{Lowers: []string{"/a:b", "/c"}}},
		{"escaped comma stays in the name", []string{`lowerdir=/a\,b,upperdir=/u\,v`}, Options{Lowers: []string{"/a,b"}, Upper: "/u,v"}},
		{"escaped backslash", []string{`upperdir=/a\\b`}, Options{Upper: `/a\b`}},
		{"a colon in upperdir needs no escape", []string{`upperdir=/a:b,workdir=/c\:d`}, Options{Upper: "/a:b", Work: "/c:d"}},
		{"lowerdir+ adds below", []string{"lowerdir=/a,lowerdir+=/b:c,lowerdir+=/d"}, Options{Lowers: []string{"/a", "/b:c", "/d"}}},
		{"the last lowerdir counts", []string{"lowerdir=/a,lowerdir=/b"}, Options{Lowers: []string{"/b"}}},
		{
			"switches",
			[]string{"redirect_dir=off,metacopy=off,index=on,xino=auto"},
			Options{RedirectDir: "off", Metacopy: off(), Index: on(), Xino: "auto"},
		},
		{
			"flags",
			[]string{"userxattr,volatile,ro,noacl,allow_other,default_permissions,debug,io=cached"},
			Options{UserXattr: true, Volatile: true, ReadOnly: true, NoACL: true, AllowOther: true, DefaultPermissions: true, Debug: true, IO: "cached"},
		},
		{"rw after ro", []string{"ro,rw"}, Options{}},
		{"the last of a pair counts", []string{"nosuid,nodev,suid,noatime"}, Options{Generic: []string{"nodev", "suid", "noatime"}}},
		{
			"commas in quotes",
			[]string{`context="system_u:object_r:container_file_t:s0:c1,c2",ro`},
			Options{ReadOnly: true, Unsupported: []string{"context=system_u:object_r:container_file_t:s0:c1,c2"}},
		},
		{"a quote inside a name is a quote", []string{`lowerdir=/a"b`}, Options{Lowers: []string{`/a"b`}}},
		{"fstab's own options are dropped", []string{"defaults,noauto,_netdev,x-systemd.automount,nofail"}, Options{}},
		{"buildah's private", []string{"lowerdir=/a:/b,private"}, Options{Lowers: []string{"/a", "/b"}}},
		{"podman's maps", []string{"uidmapping=0:1000:1:1:100000:65536"}, Options{UIDs: []IDRange{{0, 1000, 1}, {1, 100000, 65536}}}},
		{"unsupported but the default", []string{"fsync=1"}, Options{}},
		{"squash", []string{"squash_to_uid=5,squash_to_root"}, Options{SquashUID: ptr(uint32(5)), SquashGID: ptr(uint32(0))}},
		{"owners", []string{"xattr_permissions=2,owner=7:8,owner"}, Options{XattrPermissions: ptr(2), Owner: "7:8"}},
		{"unknown", []string{"lowerdri=/a,colour"}, Options{Unknown: []string{"lowerdri=/a", "colour"}}},
		{"empty elements", []string{",,ro,,"}, Options{ReadOnly: true}},
		{"backslash at the end", []string{`upperdir=/a\`}, Options{Upper: `/a\`}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := Parse(tt.in...)
			if err != nil {
				t.Fatalf("Parse(%q): %v", tt.in, err)
			}
			if !reflect.DeepEqual(got, tt.want) {
				t.Errorf("Parse(%q)\n got %+v\nwant %+v", tt.in, got, tt.want)
			}
		})
	}
}

func ptr[T any](v T) *T { return &v }

func TestParseRefuses(t *testing.T) {
	tests := []struct{ name, in, want string }{
		{"value", "redirect_dir=maybe", "redirect_dir must be one of on, follow, nofollow, off"},
		{"switch without value", "metacopy", "metacopy must be one of on, off"},
		{"xino", "xino=1", "xino must be one of on, auto, off"},
		{"io", "io=fast", "io must be one of"},
		{"transport", "transport=pigeon", "transport must be one of"},
		{"spin", "spin=10001", "spin must be one of"},
		{"flag with value", "volatile=no", "volatile takes no value"},
		{"empty lowerdir", "lowerdir=", "needs a list of layers"},
		{"empty layer", "lowerdir=/a::/b", "empty layer"},
		{"lowerdir after lowerdir+", "lowerdir+=/a,lowerdir=/b", "cannot follow"},
		{"remount", "remount,ro", "cannot be changed"},
		{"empty upperdir", "upperdir=", "upperdir needs a value"},
		{"open quote", `context="a,b`, "quote is not closed"},
		{"text after quote", `context="a"b`, "after the closing quote"},
		{"no name", "=x", "has no name"},
		{"half a range", "uidmapping=0:1", "must be one of the lists of DISK:SHOWN:COUNT"},
		{"empty range", "gidmapping=0:1:0", "lists of DISK:SHOWN:COUNT"},
		{"range beyond the end", "uidmapping=4294967295:0:2", "lists of DISK:SHOWN:COUNT"},
		{"squash", "squash_to_uid=root", "must be one of the numbers"},
		{"xattr_permissions", "xattr_permissions=3", "must be one of 0, 1, 2"},
		{"owner", "owner=root", "must be one of image, me, UID:GID"},
		{"two owners", "owner=me,squash_to_root", "contradict"},
		{"contradiction", "metacopy=on,redirect_dir=off", "contradict"},
		{"501 layers", "lowerdir=" + strings.Repeat("/l:", 500) + "/l", "501 layers are too many"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := Parse(tt.in)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("Parse(%.60q) = %+v, %v; want an error with %q", tt.in, got, err, tt.want)
			}
		})
	}
	if _, err := Parse("lowerdir=" + strings.Repeat("/l:", 499) + "/l"); err != nil {
		t.Errorf("500 layers: %v", err)
	}
}

func TestUnknownOptionSuggestsTheNearest(t *testing.T) {
	tests := map[string]string{
		"lowerdri=/a":      `did you mean "lowerdir"?`,
		"upper=/u":         `unknown option "upper=/u"`,
		"redirectdir=on":   `did you mean "redirect_dir"?`,
		"allow_others":     `did you mean "allow_other"?`,
		"nosiud":           `did you mean "nosuid"?`,
		"noxattrs":         `known but not supported`,
		"completely_other": `unknown option "completely_other"`,
	}
	for in, want := range tests {
		o, err := Parse(in)
		if err != nil {
			t.Fatal(err)
		}
		if err := o.Strict(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", in, err, want)
		}
	}
	o, err := Parse("ro,nosuid,lowerdir=/a")
	if err != nil || o.Strict() != nil {
		t.Errorf("known options: %v, %v", err, o.Strict())
	}
}

func TestLayersRoundTrip(t *testing.T) {
	for _, layers := range [][]string{{"/a"}, {"/a", "/b:c", `/d\e`, "/f,g", `"/h"`}, {`\`, `:`, `,`}} {
		if got := SplitLayers(JoinLayers(layers)); !reflect.DeepEqual(got, layers) {
			t.Errorf("%q came back as %q", layers, got)
		}
	}
}

// FuzzParse checks that what was parsed is formatted to what parses the same.
func FuzzParse(f *testing.F) {
	for _, s := range []string{
		"lowerdir=/a:/b,upperdir=/u,workdir=/w", `lowerdir=/a\:b:/c\,d:/e\\f`, `context="x:c1,c2",ro,rw`,
		`lowerdir+="/a,b",lowerdir+=/c`, `redirect_dir=nofollow,metacopy=off`, `a="\"b\",c"`, `upperdir=\"x`, `x=,y,=`, `lowerdir="/a:/b"`,
		`bogus=a\`, `nosuid,suid,noatime,relatime`,
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		first, err := Parse(s)
		if err != nil {
			return
		}
		text := first.String()
		second, err := Parse(text)
		if err != nil {
			t.Fatalf("%q was formatted as %q, which does not parse: %v", s, text, err)
		}
		if !reflect.DeepEqual(first, second) {
			t.Fatalf("%q\n was %+v\n formatted as %q\n is %+v", s, first, text, second)
		}
		if again := second.String(); again != text {
			t.Fatalf("formatted as %q, then as %q", text, again)
		}
	})
}
