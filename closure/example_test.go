package closure_test

import (
	"crypto/sha256"
	"fmt"
	"log"
	"strings"

	"github.com/nix2img/nix2img/closure"
)

const registration = `/nix/store/2qhm4ym3s4z1xmjbbz4fw5ymp7qjl8in-greeter-1.0
sha256:0m0mz4bzdkp02v5v3218yngsqyg5lqxlwfa24bbxn8v3zahabw1k
16552

2
/nix/store/51d7zihi0w7xgjsjs7q3r8g29blbl3wb-glibc-2.36
/nix/store/yy2xxmscc9m96w9h31j4wrbd8svrcqgl-greeter-1.0-lib
/nix/store/51d7zihi0w7xgjsjs7q3r8g29blbl3wb-glibc-2.36
sha256:1zbpzr1nsnd9xcng7r0xgclhj4bmrxz0ync76imkb83y0yknrpz7
12794400

0
/nix/store/yy2xxmscc9m96w9h31j4wrbd8svrcqgl-greeter-1.0-lib
sha256:036c99cx53l2pyq05mpqhiabrmzwqsavrspmqa662yya09i2iv05
15720

1
/nix/store/51d7zihi0w7xgjsjs7q3r8g29blbl3wb-glibc-2.36
`

// A registration, as nixpkgs' closureInfo writes it, becomes a closure.
func Example() {
	objects, err := closure.ReadObjects(strings.NewReader(registration))
	if err != nil {
		log.Fatal(err)
	}
	c, err := closure.New(nil, objects)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("roots:", c.Roots())
	digest := sha256.New()
	for _, o := range c.Objects() {
		fmt.Println(o.Path.Name(), o.NARHash)
		fmt.Fprintln(digest, o.Path, o.NARHash)
	}
	fmt.Printf("%d bytes, sha256:%x\n", c.NARSize(), digest.Sum(nil))
	// Output:
	// roots: [/nix/store/2qhm4ym3s4z1xmjbbz4fw5ymp7qjl8in-greeter-1.0]
	// glibc-2.36 sha256-599spwd+oDVrNIdZD37PdREJKXsd5PMs66lZbUP+d/0=
	// greeter-1.0-lib sha256-BewoYgLKe2GMwvXqvJXG/Ne8VIT41gKwv4KO0llKzAw=
	// greeter-1.0 sha256-M/CloPpjI9vXIkI5Tjum5Xmsn/UoiLHLFuDO9hf5FVQ=
	// 12826672 bytes, sha256:d44970d2f2b308caaaf8496ec50a56a1cacd3aaadf4a4983564b8cc7b7846f9e
}
