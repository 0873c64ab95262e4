package parent

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"strings"

	"github.com/capnspacehook/egress-eddie/ipc/exit"
)

// options are what the command line says.
type options struct {
	config    string
	test      bool
	debug     bool
	fullDNS   bool
	log       string
	logFormat string // "", "json" or "text"
	user      string
	version   bool
}

const usage = `egress-eddie filters this host's outbound traffic by hostname.

Usage: egress-eddie [-c FILE] [options]
       egress-eddie profile [-h] | audit [-h]   show the cells, check a running tree
       egress-eddie reload PID                  have it read its configuration again

  -c FILE          configuration (default egress-eddie.toml);
                   SIGHUP reads it again
  -t               check the configuration and exit
  -u USER          run as this user when started as root (default: egress-eddie
                   if there is such an account, else an unused number)
  -l WHERE         log to stdout, stderr or a file (default stdout);
                   SIGUSR1 opens the file again
  -log-format F    json or text (default: text on a terminal, else json)
  -d               also log accepted traffic
  -f               log whole DNS messages
  -version         show version, commit and Go version
  -h               show this

It needs CAP_NET_ADMIN and firewall rules that send DNS requests, DNS responses
and everything else to its queues. The user build, by IPv4 and to github.com only
(README has the rules for IPv6 and for everybody else, whom these leave without DNS):

  # egress-eddie.toml
  resolvers = ["192.0.2.53"]   # yours
  inboundDNSQueue.ipv4 = 1
  [[filters]]
  name = "build"
  dnsQueue.ipv4 = 1000
  trafficQueue.ipv4 = 1001
  allowAnswersFor = "5m"
  allowedHostnames = ["github.com"]

  build="-m owner --uid-owner build"
  iptables -I INPUT 1 -p udp --sport 53 -j NFQUEUE --queue-num 1
  iptables -I INPUT 1 -p tcp --sport 53 -j NFQUEUE --queue-num 1
  iptables -A OUTPUT $build -p udp --dport 53 -j NFQUEUE --queue-num 1000
  iptables -A OUTPUT $build -p tcp --dport 53 -j NFQUEUE --queue-num 1000
  iptables -A OUTPUT $build -o lo -j ACCEPT
  iptables -A OUTPUT $build -m conntrack --ctstate ESTABLISHED,RELATED --ctdir ORIGINAL -j ACCEPT
  iptables -A OUTPUT $build -p tcp -j NFQUEUE --queue-num 1001
  iptables -A OUTPUT $build -p udp -j NFQUEUE --queue-num 1001
  iptables -A OUTPUT $build -j REJECT
  iptables -A OUTPUT -p tcp --dport 53 -m owner ! --socket-exists -j NFQUEUE --queue-num 1000
  ip6tables -A OUTPUT $build ! -o lo -j REJECT

Exit status: 0 stopped, 64 usage, 69 something is lacking or taken, 70 a process
of the tree failed, 77 missing privilege, 78 configuration.
`

// errHelp says that the help was asked for and shown.
var errHelp = errors.New("help")

// parseCommandLine reads the arguments after the program's name.
func parseCommandLine(args []string, out io.Writer) (options, error) {
	var o options
	fs := flag.NewFlagSet("egress-eddie", flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	fs.StringVar(&o.config, "c", "egress-eddie.toml", "")
	fs.BoolVar(&o.test, "t", false, "")
	fs.BoolVar(&o.debug, "d", false, "")
	fs.BoolVar(&o.fullDNS, "f", false, "")
	fs.StringVar(&o.log, "l", "stdout", "")
	fs.StringVar(&o.logFormat, "log-format", "", "")
	fs.StringVar(&o.user, "u", "", "")
	fs.BoolVar(&o.version, "version", false, "")
	switch err := fs.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		fmt.Fprint(out, usage)
		return o, errHelp
	case err != nil:
		return o, usageError("%v", err)
	case fs.NArg() > 0:
		return o, usageError("unexpected argument %q", strings.Join(fs.Args(), " "))
	case o.logFormat != "" && o.logFormat != "json" && o.logFormat != "text":
		return o, usageError("-log-format %q: must be json or text", o.logFormat)
	case o.log == "":
		return o, usageError("-l: must be stdout, stderr or a path")
	}
	return o, nil
}

func usageError(format string, args ...any) error {
	return exit.WithHint(exit.Usage, "egress-eddie -h shows how it is used", format, args...)
}
