#!/bin/sh
# iptables and ip6tables rules for egress-eddie.toml beside this file: the
# users _apt and dev are filtered by hostname, root may ask for every name and
# its traffic is not filtered, nobody else may ask the DNS at all. Run as root,
# as often as you like: each family is replaced in one transaction, and a
# mistake leaves what was there.
#
# The rules are closed while Egress Eddie is not running: a packet for a queue
# that nobody reads is dropped. Never add --queue-bypass, which would open them.
set -eu

# filtered UIDS DNS_QUEUE TRAFFIC_QUEUE: what a user, or a range of uids, sends.
filtered() {
    from="-A EDDIE-OUT -m owner --uid-owner $1"
    # DNS requests, loopback (a stub resolver) included; over TCP all segments, with
    # data or without.
    echo "$from -p udp --dport 53 -j NFQUEUE --queue-num $2"
    echo "$from -p tcp --dport 53 -j NFQUEUE --queue-num $2"
    # Local services.
    echo "$from -o lo -j RETURN"
    # What a judged packet of this side began. Not what somebody outside began:
    # he would get his answer.
    echo "$from -m conntrack --ctstate ESTABLISHED,RELATED --ctdir ORIGINAL -j RETURN"
    # Everything else, whatever conntrack thinks of it.
    echo "$from -p tcp -j NFQUEUE --queue-num $3"
    echo "$from -p udp -j NFQUEUE --queue-num $3"
    # What is neither TCP nor UDP (ICMP echo, SCTP) could carry data out.
    echo "$from -j REJECT"
}

# rules RESPONSES APT_DNS APT_TRAFFIC DEV_DNS DEV_TRAFFIC ROOT_DNS
rules() {
    echo "*filter"
    echo ":EDDIE-IN -"
    echo ":EDDIE-OUT -"
    # Every DNS response. This stands before any rule that accepts established
    # traffic, or answers would pass unseen and grant nothing.
    for protocol in udp tcp; do
        echo "-A EDDIE-IN -p $protocol --sport 53 -m conntrack --ctstate ESTABLISHED -j NFQUEUE --queue-num $1"
        # What pretends to be an answer to nobody's question.
        echo "-A EDDIE-IN -p $protocol --sport 53 -j DROP"
    done

    filtered _apt "$2" "$3"
    filtered dev "$4" "$5"
    # What newuidmap lends to dev, as /etc/subuid says: rootless containers on
    # the host's network are dev too.
    filtered 100000-165535 "$4" "$5"

    # Not filtered, but asked: a response passes only if its request was seen.
    for protocol in udp tcp; do
        echo "-A EDDIE-OUT -m owner --uid-owner root -p $protocol --dport 53 -j NFQUEUE --queue-num $6"
    done
    # Whoever else asks would wait for an answer that cannot pass.
    echo "-A EDDIE-OUT -p udp --dport 53 -m owner ! --uid-owner root -j REJECT"
    echo "-A EDDIE-OUT -p tcp --dport 53 -m owner --uid-owner 1-4294967294 -j REJECT"
    # What has no user any more. NB: the kernel sends for a socket that was closed
    # what was not acknowledged, a refused query too. In any filter's queue that
    # stays refused, and the end of a connection passes.
    echo "-A EDDIE-OUT -p tcp --dport 53 -j NFQUEUE --queue-num $6"
    echo "COMMIT"
}

# load COMMAND QUEUES...
load() {
    command=$1
    shift
    rules "$@" | "$command-restore" -w --noflush
    for pair in INPUT:EDDIE-IN OUTPUT:EDDIE-OUT; do
        "$command" -w -C "${pair%%:*}" -j "${pair#*:}" 2>/dev/null ||
            "$command" -w -I "${pair%%:*}" 1 -j "${pair#*:}"
    done
}

load iptables  1 1000 1010 2000 2010 3000
load ip6tables 2 1001 1011 2001 2011 3001
