# A server on loopback that answers each request of the worker with something hostile, chosen at random.
#
#   my $server = PemsSync::HostileServer->new(endpoints => 8, seed => 42, answers => "$directory/answers");
#   $server->urls;                                             # one api_url for each endpoint
#   PemsSync::HostileServer::answers("$directory/answers");    # how many answers so far
#   PemsSync::HostileServer::kinds("$directory/answers");      # kind => how many
#
# It keeps no records: a correct answer is one that could be true.  Several servers may write to one file of answers.
# The last endpoint of each server is the only one that asks for long waits (Retry-After), because nothing more is sent
# to it for up to ten minutes.
#
# It is a process of its own and ends with the one that started it: it watches its parent, and what still runs in END
# is killed there.
package PemsSync::HostileServer;

use strict;
use warnings;

use Carp qw(croak);
use Compress::Zlib qw(memGzip);
use IO::Select;
use IO::Socket::INET;
use JSON::PP;
use POSIX ();
use PemsSync::Test;
use Socket qw(SOL_SOCKET SO_LINGER);
use Time::HiRes qw(time);

# How often it looks whether its parent is still there, and between two bytes of a slow answer; seconds.
use constant { LOOK => 1, DRIP => 0.05 };
use constant BLOCK => 65536;
# A number of a kind in the file of answers: two digits and a newline.
use constant NOTE_LENGTH => 3;

my $json = JSON::PP->new->canonical->allow_nonref->utf8;
my %running;    # pid => 1

END
{
    my $status = $?;
    kill 'KILL', keys %running;
    waitpid $_, 0 for keys %running;
    $? = $status;
}

# ---------- answers ----------

sub pick { return $_[ rand @_ ] }
sub chance { return rand() < $_[0] }
sub bytes { my ($length) = @_; return join '', map { chr int rand 256 } 1 .. $length }

# What is large is made once.
my $deep = '[' x 5000 . ']' x 5000;
my $deep_object = '{"a":' x 5000 . '1' . '}' x 5000;
my $large = 'x' x 300_000;
my $bomb = memGzip("\0" x (16 * 1024 * 1024));

# The head of an answer; headers are whole lines.
sub head
{
    my ($status, @headers) = @_;
    return join("\r\n", "HTTP/1.1 $status Word", 'Content-Type: application/json', @headers) . "\r\n\r\n";
}

sub answer
{
    my ($status, $body, @headers) = @_;
    return { bytes => head($status, 'Content-Length: ' . length $body, @headers) . $body };
}

# The same as the end of the connection, which nobody was told before.
sub ends { my ($answer) = @_; return { %$answer, ends => 1 } }

# A record, with other values each time.
sub data
{
    my ($request, %members) = @_;
    my $data = PemsSync::Test::record_data($request->{pfa_id}, monthlyRate => 1000 * (1 + int rand 3), contract => 'C-' . int rand 3);
    return with_members($json->encode($data), %members);
}

# A JSON object with some members more, whose values are JSON; of equal names the last one counts, or the first.
sub with_members
{
    my ($object, %members) = @_;
    my $more = join ',', map { $json->encode($_) . ":$members{$_}" } sort keys %members;
    return $object if $more eq '';
    return chance(.5) ? $object =~ s/\}\z/,$more}/r : $object =~ s/\A\{/{$more,/r;
}

# The body that a request hopes for, of which some members are something else (undef: missing).
sub good
{
    my ($request, %members) = @_;
    my $version = $request->{version} + (chance(.8) ? 1 : 2);
    my %good = (success => 'true', pfaId => $json->encode($request->{pfa_id}), updatedAt => '"2025-01-15T00:00:00Z"');
    if ($request->{method} eq 'GET')
    {
        $good{version} = $version;
        $good{data} = data($request);
    }
    else { $good{newVersion} = $version }
    %good = (%good, %members);
    return '{' . join(',', map { "\"$_\":$good{$_}" } grep { defined $good{$_} } sort keys %good) . '}';
}

# The same with something else for a version, under the name that it has in this answer.
sub versioned
{
    my ($request, $version) = @_;
    return good($request, $request->{method} eq 'GET' ? 'version' : 'newVersion', $version);
}

# Of a read: a record with such data.  A write is told that there is another version, so that a read follows.
sub with_data
{
    my ($request, $data) = @_;
    return answer(200, good($request, data => $data)) if $request->{method} eq 'GET';
    return answer(409, '{"success":false,"error":"VERSION_CONFLICT","message":"another version"}');
}

sub failure
{
    my ($request) = @_;
    return pick('', '{', '{}', '[]', 'null', '<html><body>no</body></html>', bytes(200), '{"success":true}', '{"error":null}', '{"error":{"a":1}}',
        good($request), '{"success":false,"error":"' . pick(qw(VERSION_CONFLICT NOT_FOUND UNAUTHORIZED FORBIDDEN CONFLICT GATEWAY_TIMEOUT)) . '"}',
        '{"success":false,"error":"ORGANIZATION_UNKNOWN","organizationCode":"X"}', '{"error":"' . 'E' x 5000 . '","message":"' . 'm' x 50_000 . '"}',
        '{"success":false,"message":"\u0000\u202e\ud83d"}');
}

sub chunked
{
    my ($text) = @_;
    return ends({ bytes => head(200, 'Transfer-Encoding: chunked') . $text });
}

sub chunk { my ($text) = @_; return sprintf "%x\r\n%s\r\n", length $text, $text }

my @dates = ('Wed, 21 Oct 2015 07:28:00 GMT', 'Fri, 31 Dec 9999 23:59:59 GMT', 'Thu, 01 Jan 1970 00:00:00 GMT', 'Someday, 99 Foo 0000 99:99:99 GMT');

# A Retry-After.  All but the last endpoint are only asked for short ones; nonsense counts as five seconds.
sub retry_after
{
    my ($request) = @_;
    my @short = (0, 1, $dates[0], $dates[2]);
    return pick(@short) if !$request->{waits_long};
    return pick(@short, -1, '1e9', '9' x 400, '0x10', "\x80\xff", '', 86400, @dates);
}

# name, weight, code.  The request: method, pfa_id, version, waits_long.  What the code returns: bytes; ends => 1: the connection ends
# behind them; slow => 1: byte by byte; reset => 1: the connection is reset behind them; stays => 1: nothing more comes, and it stays open.
my @kinds = (
    [ 'correct', 12, sub { answer(200, good($_[0])) } ],
    [ 'a status of any class', 4, sub { answer(pick(200 .. 208, 226, 299, 300 .. 308, 400, 402, 405 .. 408, 413 .. 418, 421 .. 426, 431, 451, 499, 500 .. 511, 599), failure($_[0])) } ],
    [ 'a status that is none', 3, sub {
        ends({ bytes => 'HTTP/' . pick('1.1', '1.0', '2', '9.9', 'x') . ' ' . pick(0, '000', 99, 600, 700, 999, 1000, -200, 'OK',
            "\0") . " Word\r\n\r\n" . good($_[0]) }) } ],
    [ 'many 1xx', 3, sub { +{ bytes => pick(head(100), head(102), head(103, 'Link: </a>; rel=preload'), head(199)) x (1 + int rand 500) . answer(200, good($_[0]))->{bytes} } } ],
    [ '1xx and nothing more', 1, sub { ends({ bytes => pick(head(100), head(101, 'Upgrade: x', 'Connection: upgrade')) x pick(1, 50) }) } ],
    [ 'a huge body', 3, sub { ends(pick(answer(200, $large), answer(500, $large), { bytes => head(200) . $large }, answer(200, good($_[0], message => "\"$large\"")))) } ],
    [ 'a body that breaks off', 4, sub { my $body = good($_[0]); ends({ bytes => head(200, 'Content-Length: ' . length $body) . substr $body, 0, rand length $body }) } ],
    [ 'Content-Length too small', 3, sub { my $body = good($_[0]); +{ bytes => head(200, 'Content-Length: ' . int rand length $body) . $body } } ],
    [ 'Content-Length too large', 3, sub {
        my $body = good($_[0]); ends({ bytes => head(200, 'Content-Length: ' . pick(length($body) + 1, 60_000, 2**31, '9223372036854775807', '9' x 40)) . $body }) } ],
    [ 'Content-Length nonsense', 3, sub { my $body = good($_[0]); ends({ bytes => head(200, map { "Content-Length: $_" } pick(['-1'], ['x'], [ '' ], [ 1, length $body ], [ "+5" ])->@*) . $body }) } ],
    [ 'broken chunks', 4, sub {
        chunked(pick("zz\r\n" . bytes(20), chunk(good($_[0])), chunk(good($_[0])) . "0\r\n", "\r\n" . good($_[0]), "-1\r\nx\r\n", "7fffffffffffffff\r\n{",
            'f' x 40 . "\r\n{", "5;" . 'x' x 70_000)) } ],
    [ 'good chunks', 2, sub { +{ bytes => head(200, 'Transfer-Encoding: chunked') . join('', map { chunk($_) } split //, good($_[0])) . "0\r\n" . 'X-Trailer: 1' . "\r\n\r\n" } } ],
    [ 'gzip that is none', 3, sub {
        answer(200, pick(good($_[0]), bytes(200), '', substr memGzip(good($_[0])), 0, 30), 'Content-Encoding: ' . pick('gzip', 'deflate', 'br', 'zstd', 'rot13',
            join ', ', ('gzip') x 10)) } ],
    [ 'a gzip bomb', 2, sub { answer(200, $bomb, 'Content-Encoding: gzip') } ],
    [ 'good gzip', 1, sub { answer(200, memGzip(good($_[0])), 'Content-Encoding: gzip') } ],
    [ 'NUL bytes', 3, sub { my $body = good($_[0]); answer(200, pick("\0" x 100, "\0$body", "$body\0", $body =~ s/,/,\0/gr, $body =~ s/"pfaId":"/"pfaId":"\0/r)) } ],
    [ 'no UTF-8', 3, sub {
        my $bad = pick("\xff\xfe", "\xc0\x80", "\xed\xa0\x80", "\xf5\x80\x80\x80", "\xe2\x82"); answer(pick(200, 422), good($_[0], message => "\"$bad\"",
            data => data($_[0], description => "\"$bad\""))) } ],
    [ 'random bytes', 2, sub { ends({ bytes => chance(.5) ? bytes(1 + rand 2000) : head(200) . bytes(rand 2000) }) } ],
    [ 'deep nesting', 3, sub {
        my $thing = pick($deep, $deep_object, '[' x 30_000, '{"a":[' x 5000); answer(200, pick($thing, good($_[0], message => $thing), good($_[0], data => $thing),
            good($_[0], data => data($_[0], monthlyRate => $thing)))) } ],
    [ 'numbers out of range, needed', 4, sub {
        chance(.5) ? answer(200, versioned($_[0], pick('1e999999', '-1e999999', '1e-999999', '9' x 1000, '1.5', '1e', '01', 'NaN', 'Infinity'))) : with_data($_[0],
            data($_[0], monthlyRate => pick('1e999999', '1e-999999', '1e131071', '9' x 5000, '0.' . '0' x 5000 . '1', '-0', '1e', 'NaN'))) } ],
    [ 'numbers out of range, not needed', 3, sub {
        chance(.5) ? answer(200, good($_[0], message => '1e999999')) : with_data($_[0], data($_[0], unknownField => pick('1e999999', '-1e999999', '1e-999999',
            '1e131071', '9' x 20_000))) } ],
    [ 'wrong pfaId', 3, sub { answer(200, good($_[0], pfaId => pick('"PFA-OTHER"', lc "\"$_[0]{pfa_id}\"", 'null', 7, '[]', '""', undef, '"' . 'x' x 5000 . '"'))) } ],
    [ 'odd newVersion', 5, sub { answer(200, versioned($_[0], pick(0, -1, -2**31, 2**31, 2**31 - 1, 2**32 + 1, '"2"', 'null', 'true', '{}', undef))) } ],
    [ 'keys twice', 3, sub {
        answer(200, with_members(good($_[0]), %{ pick({ newVersion => 0, version => 0 }, { pfaId => '"X"' }, { success => 'false' }, { data => '{}' },
            { newVersion => '"x"' }) })) } ],
    [ 'another version', 5, sub { chance(.5) ? answer(409, '{"success":false,"error":"VERSION_CONFLICT"}') : answer(200, versioned($_[0], pick(1, 1, 2, 5, 50, 1000))) } ],
    [ 'data that is no object', 4, sub { with_data($_[0], pick('[]', 'null', '"text"', 7, 'true', undef, '{')) } ],
    [ 'odd data', 5, sub {
        my $value = pick('"\u0000"', '"\ud800"', '"\udc00\ud800"', '{"a":"\u0000"}', '[]', '{}', '""', 'null', 'true', '"yesterday"', '"infinity"', '"2025-02-30T00:00:00Z"', '"' . 'x' x 50_000 . '"');
        with_data($_[0], chance(.2) ? '{}' : data($_[0], pick(qw(monthlyRate forecastStart dor isActualized description unknownField pfaId), '', '\u0000'), $value)) } ],
    [ 'half a head', 3, sub { my $head = head(200, 'Content-Length: 2', 'X-Odd: 1'); ends({ bytes => substr $head, 0, rand length $head }) } ],
    [ 'many headers', 3, sub { answer(200, good($_[0]), map { "X-$_: 0123456789abcdef" } 1 .. pick(100, 1000, 4000)) } ],
    [ 'huge or odd headers', 3, sub {
        answer(200, good($_[0]), pick('X-Huge: ' . 'x' x pick(8000, 70_000, 200_000), 'x' x 5000, ': nothing', "X-Nul: \0", "X-\xff: \xfe", " folded\r\n more",
            'Set-Cookie: a=' . 'b' x 5000, 'Connection: ' . 'close, ' x 500)) } ],
    [ '429', 2, sub { answer(429, failure($_[0]), 'Retry-After: ' . retry_after($_[0])) } ],
    [ '503 and Retry-After', 1, sub { answer(503, failure($_[0]), ('Retry-After: ' . retry_after($_[0])) x pick(1, 2, 100), 'Date: ' . pick(@dates)) } ],
    [ 'a redirect', 3, sub {
        answer(pick(301, 302, 303, 307, 308), '', 'Location: ' . pick('/', '//', 'http://127.0.0.1:1/', 'file:///etc/passwd', 'gopher://x', '', 'x' x 10_000,
            "http://[::1]:\0", $_[0]{path})) } ],
    [ 'nothing', 2, sub { ends({ bytes => '' }) } ],
    [ 'an empty body', 3, sub { answer(pick(200, 201, 202, 204, 205, 304), '') } ],
    [ 'HTML', 3, sub { answer(pick(200, 200, 500, 502), '<!DOCTYPE html><html><body>' . 'Sorry! ' x (1 + rand 3000) . '</body></html>') } ],
    [ 'several answers', 4, sub {
        +{ bytes => join '', map { $_->{bytes} } answer(200, good($_[0])), map { pick(answer(200, good($_[0])), answer(401, '{}'), answer(408, ''),
            { bytes => bytes(50) }) } 1 .. 1 + rand 5 } } ],
    [ 'slow bytes', 1, sub { +{ %{ answer(200, good($_[0])) }, slow => 1 } } ],
    [ 'no answer', 1, sub { +{ bytes => chance(.5) ? '' : "HTTP/1.1 200 OK\r\nContent-", stays => 1 } } ],
    [ 'a reset', 3, sub { +{ bytes => pick('', 'HTTP/1.1 200 OK', head(200, 'Content-Length: 500') . '{'), reset => 1 } } ],
    [ '401', 2, sub { answer(401, failure($_[0]), 'WWW-Authenticate: ' . pick('Bearer', 'Basic realm="x"', 'Negotiate ' . 'x' x 5000, 'NTLM')) } ],
    [ '403, 404, 409, 410, 412', 8, sub { answer(pick(403, 404, 404, 409, 410, 412), failure($_[0])) } ],
    [ 'success:false', 3, sub {
        my $error = pick('VERSION_CONFLICT', 'NOT_FOUND', 'VALIDATION_FAILED', 'INTERNAL', '', "\\u0000", 'x' x 5000); answer(200, good($_[0], success => 'false',
            error => "\"$error\"")) } ],
);

my @lot = map { my $kind = $_; ($kind) x $kinds[$kind][1] } 0 .. $#kinds;

# ---------- the caller's side ----------

sub names { return map { $_->[0] } @kinds }

# How many answers the servers have given.
sub answers { my ($file) = @_; return int((-s $file // 0) / NOTE_LENGTH) }

# kind => how many
sub kinds
{
    my ($file) = @_;
    my %count;
    $count{ $kinds[$_][0] }++ for split ' ', PostgreSQL::Test::Utils::slurp_file($file);
    return %count;
}

# new(endpoints => NUMBER, seed => NUMBER, answers => FILE): starts one.
sub new
{
    my ($class, %options) = @_;
    my $self = bless { sides => {} }, $class;
    my @listeners = map { IO::Socket::INET->new(LocalAddr => '127.0.0.1', Listen => 64, Proto => 'tcp') // croak "listen: $!" } 1 .. $options{endpoints};
    my $parent = $$;

    $self->{ports} = [ map { $_->sockport } @listeners ];
    open $self->{notes}, '>>', $options{answers} or croak "$options{answers}: $!";
    $self->{pid} = fork // croak "fork: $!";
    if ($self->{pid} == 0)
    {
        $SIG{PIPE} = 'IGNORE';
        srand $options{seed};
        eval { $self->_serve($parent, @listeners); 1 } or print STDERR "hostile server: $@";
        POSIX::_exit(0);
    }
    close $self->{notes};
    $running{ $self->{pid} } = 1;
    return $self;
}

sub urls { my ($self) = @_; return map { "http://127.0.0.1:$_/api" } @{ $self->{ports} } }

# ---------- the process ----------

sub _close
{
    my ($self, $side) = @_;
    delete $self->{sides}{ fileno $side->{socket} };
    setsockopt $side->{socket}, SOL_SOCKET, SO_LINGER, pack 'ii', 1, 0 if $side->{reset};
    close $side->{socket};
    return;
}

# Send what can be sent now: of a slow answer one byte.
sub _flush
{
    my ($self, $side) = @_;
    if ($side->{out} ne '')
    {
        my $sent = syswrite $side->{socket}, $side->{out}, $side->{slow} ? 1 : length $side->{out};
        return $self->_close($side) if !defined $sent && !$!{EAGAIN};
        substr $side->{out}, 0, $sent // 0, '';
        $side->{next} = time + DRIP if $side->{slow};
    }
    return $self->_close($side) if ($side->{ends} || $side->{reset}) && $side->{out} eq '';
    return;
}

# The first request of what has arrived, which it is taken from; undef where there is no whole one.
sub _next_request
{
    my ($side) = @_;
    my ($head) = $side->{in} =~ /\A(.*?\r\n\r\n)/s or return;
    my ($length) = $head =~ /^Content-Length: (\d+)/mi;
    my $whole = length($head) + ($length // 0);
    return if length $side->{in} < $whole;
    my $body = substr substr($side->{in}, 0, $whole, ''), length $head;
    my ($method, $path, $pfa_id) = $head =~ m{\A([A-Z]+) (\S*?/([^/?\s]*)(?:\?\S*)?) } or return;
    my ($version) = $body =~ /"version":\s*(\d+)/;
    return { method => $method, path => $path, pfa_id => $pfa_id, version => $version // int rand 4, waits_long => $side->{waits_long} };
}

sub _read
{
    my ($self, $side) = @_;
    my $got = sysread $side->{socket}, $side->{in}, BLOCK, length $side->{in};
    return if !defined $got && $!{EAGAIN};
    return $self->_close($side) if !$got;
    my $request = _next_request($side) // return;
    my $kind = pick(@lot);
    my $answer = $kinds[$kind][2]->($request);
    syswrite $self->{notes}, sprintf "%02d\n", $kind;
    $side->{out} .= $answer->{bytes};
    $side->{$_} = $answer->{$_} for qw(ends reset slow);
    return $self->_flush($side);
}

sub _accept
{
    my ($self, $listener, $waits_long) = @_;
    my $socket = $listener->accept // return;
    $socket->blocking(0);
    $self->{sides}{ fileno $socket } = { socket => $socket, in => '', out => '', waits_long => $waits_long };
    return;
}

sub _serve
{
    my ($self, $parent, @listeners) = @_;
    my %is_listener = map { fileno $_ => 1 } @listeners;
    while (getppid == $parent)
    {
        my @sides = values %{ $self->{sides} };
        my @slow = grep { $_->{slow} && $_->{out} ne '' } @sides;
        my $readers = IO::Select->new(@listeners, map { $_->{socket} } grep { !$_->{ends} } @sides);
        my $writers = IO::Select->new(map { $_->{socket} } grep { $_->{out} ne '' && !$_->{slow} } @sides);
        my ($readable, $writable) = IO::Select->select($readers, $writers, undef, @slow ? DRIP : LOOK);
        my $now = time;
        $self->_flush($_) for grep { $_->{next} <= $now } @slow;
        for my $socket (@{ $writable // [] })
        {
            my $side = defined fileno $socket ? $self->{sides}{ fileno $socket } : undef;
            $self->_flush($side) if $side;
        }
        for my $socket (@{ $readable // [] })
        {
            next if !defined fileno $socket;
            if ($is_listener{ fileno $socket }) { $self->_accept($socket, $socket == $listeners[-1]); next }
            my $side = $self->{sides}{ fileno $socket };
            $self->_read($side) if $side && !$side->{ends};
        }
    }
    return;
}

1;
