# A TCP proxy on loopback that keeps every byte that went through it, and may put other answers in the place
# of those that came.
#
#   my $proxy = PemsSync::Proxy->new(record => "$directory/wire", to => $fake->port);
#   $proxy->url('https');                # https://127.0.0.1:PORT/api
#   $proxy->send_to($other->port);       # connections that come from now on
#   $proxy->recorded;                    # all bytes, of both directions, so far
#   $proxy->say($bytes, ends => 1);      # to all who are connected, though nobody asked
#
# Without `to` it is a server that reads and says nothing.
#
# It is a process of its own and ends with the one that started it, whatever happens to that: it watches
# its parent, and what still runs in END is killed there.
package PemsSync::Proxy;

use strict;
use warnings;

use Carp qw(croak);
use IO::Select;
use IO::Socket::INET;
use POSIX ();
use PostgreSQL::Test::Utils;

# How often it looks whether its parent is still there; seconds.
use constant LOOK => 1;
use constant BLOCK => 65536;

my %running;    # pid => 1

END
{
    my $status = $?;
    kill 'KILL', keys %running;
    waitpid $_, 0 for keys %running;
    $? = $status;
}

# new(record => PREFIX, to => PORT, replace => CODE): starts one.  PREFIX begins the names of its files.
#
# replace, for plain HTTP, is called when the first byte of an answer comes back, with the request that it
# answers; what it returns is sent instead of the answer, unless that is undef:
#   { bytes => TEXT, open => 1 }    open: the connection stays; otherwise it ends behind these bytes
sub new
{
    my ($class, %options) = @_;
    my $self = bless { record => $options{record}, replace => $options{replace} }, $class;
    my $listener = IO::Socket::INET->new(LocalAddr => '127.0.0.1', Listen => 64, Proto => 'tcp') or croak "listen: $!";
    my $parent = $$;
    # inherited by the process, until it has its own
    local $SIG{USR1} = 'IGNORE';

    $self->{port} = $listener->sockport;
    $self->send_to($options{to});
    $self->{pid} = fork // croak "fork: $!";
    if ($self->{pid} == 0)
    {
        $SIG{PIPE} = 'IGNORE';
        eval { $self->_serve($listener, $parent); 1 } or print STDERR "proxy: $@";
        POSIX::_exit(0);
    }
    $running{ $self->{pid} } = 1;
    return $self;
}

sub port { return $_[0]{port} }

# url(SCHEME, HOST): what an organization that goes through it has as api_url.
sub url
{
    my ($self, $scheme, $host) = @_;
    return "$scheme://" . ($host // '127.0.0.1') . ":$self->{port}/api";
}

sub _files { my ($self) = @_; return sort glob("$self->{record}.[0-9]*") }

# Connections that came.
sub connections { my ($self) = @_; return scalar grep { /\.up$/ } $self->_files }

sub recorded { my ($self) = @_; return join '', map { slurp_file($_) } $self->_files }

# Later connections go there; undef: nowhere.
sub send_to
{
    my ($self, $port) = @_;
    unlink "$self->{record}.new";
    append_to_file("$self->{record}.new", defined $port ? "$port\n" : "\n");
    rename "$self->{record}.new", "$self->{record}.to" or croak "$self->{record}.to: $!";
    return;
}

# say(BYTES, ends => BOOLEAN): to all connections that stand now, between two answers; ends: and end them behind it.  Returns
# when it is done.
sub say
{
    my ($self, $bytes, %options) = @_;
    append_to_file("$self->{record}.words", ($options{ends} ? 'ends' : 'open') . "\n$bytes");
    rename "$self->{record}.words", "$self->{record}.say" or croak "$self->{record}.say: $!";
    kill 'USR1', $self->{pid};
    for (1 .. 1000)
    {
        return if !-e "$self->{record}.say";
        select undef, undef, undef, 0.01;
    }
    croak 'the proxy said nothing';
}

# ---------- the process ----------

# A side of a connection: its socket, the other side, what is still to be sent on this one, whether it
# ends behind that, and where the bytes that arrive on it are kept.
sub _side
{
    my ($self, $socket, $name) = @_;
    open my $file, '>', "$self->{record}.$name" or die "$self->{record}.$name: $!\n";
    binmode $file;
    $socket->blocking(0);
    return { socket => $socket, out => '', file => $file, request => '' };
}

sub _accept
{
    my ($self, $listener) = @_;
    my $socket = $listener->accept // return;
    my $number = ++$self->{number};
    my ($port) = slurp_file("$self->{record}.to") =~ /(\d+)/;
    my $client = $self->_side($socket, "$number.up");

    $self->{sides}{ fileno $socket } = $client;
    return if !defined $port;
    my $peer = IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $port, Proto => 'tcp') or return $self->_close($client);
    my $server = $self->_side($peer, "$number.down");
    $self->{sides}{ fileno $peer } = $server;
    $server->{is_server} = 1;
    $client->{other} = $server;
    $server->{other} = $client;
    return;
}

sub _close
{
    my ($self, $side) = @_;
    my $other = $side->{other};
    delete $self->{sides}{ fileno $side->{socket} };
    close $side->{socket};
    delete $side->{other};
    return if !$other;
    # what the other side has still to get, it gets
    delete $other->{other};
    $other->{ends} = 1;
    return $self->_flush($other);
}

sub _flush
{
    my ($self, $side) = @_;
    if ($side->{out} ne '')
    {
        my $sent = syswrite $side->{socket}, $side->{out};
        return $self->_close($side) if !defined $sent && !$!{EAGAIN};
        substr $side->{out}, 0, $sent // 0, '';
    }
    return $self->_close($side) if $side->{ends} && $side->{out} eq '';
    return;
}

sub _read
{
    my ($self, $side) = @_;
    my $got = sysread $side->{socket}, my $bytes, BLOCK;
    return if !defined $got && $!{EAGAIN};
    return $self->_close($side) if !$got;
    # kept before it is passed on: nothing arrives that is not recorded
    syswrite $side->{file}, $bytes;
    return if !$side->{other};
    return $self->{replace} ? $self->_exchange($side, $bytes) : $self->_pass_on($side, $bytes);
}

sub _pass_on
{
    my ($self, $side, $bytes) = @_;
    $side->{other}{out} .= $bytes;
    return $self->_flush($side->{other});
}

# One request at a time, and then its answer.
sub _exchange
{
    my ($self, $side, $bytes) = @_;
    if (!$side->{is_server})
    {
        $side->{request} = '' if $side->{answered};
        @$side{qw(answered replaced)} = (0, 0);
        $side->{request} .= $bytes;
        return $self->_pass_on($side, $bytes);
    }
    my $client = $side->{other};
    my $other = $client->{answered} ? undef : $self->{replace}->($client->{request});
    $client->{answered} = 1;
    return if $client->{replaced} && !defined $other;
    return $self->_pass_on($side, $bytes) if !defined $other;
    $client->{replaced} = 1;
    $client->{out} .= $other->{bytes};
    $client->{ends} = 1 if !$other->{open};
    return $self->_flush($client);
}

sub _say
{
    my ($self) = @_;
    my ($ends, $bytes) = slurp_file("$self->{record}.say") =~ /\A(\w+)\n(.*)\z/s;
    for my $side (grep { !$_->{is_server} && !$_->{ends} } values %{ $self->{sides} })
    {
        $side->{out} .= $bytes;
        $side->{ends} = 1 if $ends eq 'ends';
        $self->_flush($side);
    }
    unlink "$self->{record}.say";
    return;
}

sub _serve
{
    my ($self, $listener, $parent) = @_;
    # what it is for is that select() returns
    local $SIG{USR1} = sub { };
    $self->{sides} = {};
    while (getppid == $parent)
    {
        $self->_say if -e "$self->{record}.say";
        my @sides = values %{ $self->{sides} };
        my $readers = IO::Select->new($listener, map { $_->{socket} } grep { !$_->{ends} } @sides);
        my $writers = IO::Select->new(map { $_->{socket} } grep { $_->{out} ne '' } @sides);
        my ($readable, $writable) = IO::Select->select($readers, $writers, undef, LOOK);
        for my $socket (@{ $writable // [] })
        {
            my $side = defined fileno $socket ? $self->{sides}{ fileno $socket } : undef;
            $self->_flush($side) if $side;
        }
        for my $socket (@{ $readable // [] })
        {
            next if !defined fileno $socket;
            if ($socket == $listener) { $self->_accept($listener); next }
            my $side = $self->{sides}{ fileno $socket };
            $self->_read($side) if $side && !$side->{ends};
        }
    }
    return;
}

1;
