package vcenter

import (
	"testing"
)

func TestEscapedNames(t *testing.T) {
	for name, expected := range map[string]string{
		"web-1":     "web-1",
		`a/b\c`:     "a%2fb%5cc",
		"100%":      "100%25",
		"a%2Fb%25c": "a%2Fb%25c",
		"%zz":       "%25zz",
		"größe/1":   "größe%2f1",
	} {
		if got := escaped(name); got != expected {
			t.Errorf("%s: got %s, expected %s", name, got, expected)
		}
	}
}
