# Answers of a broken or hostile PEMS that the fake has no fault for: a proxy puts them in the place of true ones.
# None is believed that should not be, none does harm, and memory stays bounded.  And answers that repeat the
# token: it is in no table, no log and no file of the server.
#
# PEMS has done the write each time, so an edit whose answer is not believed is found done by the read that follows.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../support/perl";

use Compress::Zlib qw(compress memGzip);
use Encode qw(encode);
use JSON::PP;
use MIME::Base64 qw(encode_base64);
use PemsSync::Proxy;
use PemsSync::Test;
use PostgreSQL::Test::Utils;
use Test::More;

use constant TOKEN => 'canary/of+the=echo/qzxvkjwpyhgm0817==';
# What the worker may grow by while it reads all this; kB.  The answers ask for a thousand times as much.
use constant MEMORY => 32 * 1024;
use constant MEGABYTE => 1024 * 1024;

my $directory = PostgreSQL::Test::Utils::tempdir();
my ($true, $false) = (JSON::PP::true, JSON::PP::false);

# ---------- answers ----------

# The proxy ends the connection behind each.  Nobody is to take it for one that can be used again.
use constant BEGIN_OF_ANSWER => "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n";

sub answer
{
    my ($body, @headers) = @_;
    return BEGIN_OF_ANSWER . join("\r\n", 'Content-Length: ' . length $body, @headers) . "\r\n\r\n$body";
}

# An answer of which one member is something else: text, as it stands in JSON.
sub done
{
    my ($pfa_id, %members) = @_;
    %members = (success => 'true', pfaId => "\"$pfa_id\"", newVersion => 2, updatedAt => '"2025-01-15T00:00:00Z"', %members);
    return '{' . join(',', map { "\"$_\":$members{$_}" } sort keys %members) . '}';
}

sub chunked
{
    my ($text) = @_;
    return BEGIN_OF_ANSWER . "Transfer-Encoding: chunked\r\n\r\n$text";
}

my $deep = '[' x 10_000 . ']' x 10_000;

# Believed: the edit is done with this one answer.
my $good = { attempts => qr/^PUT 200$/ };
# Not believed: read, and found done.
my $read = { attempts => qr/^PUT 200 BAD_RESPONSE, GET 200$/ };
# Believed, but with a version that PEMS does not have: read again and again, until it is clear that there is no newer one.
my $lie = { attempts => qr/^PUT 200(?:, GET 200 STALE_READ){30}$/ };
# A version that says that nothing was done: read, and found done.
my $ignored = { attempts => qr/^PUT 200 NOT_APPLIED, GET 200$/ };
# More than we read: a dead letter, which a retry finds done.
my $large = { attempts => qr/^PUT (?:200 )?RESPONSE_TOO_LARGE, GET 200$/ };
# No HTTP at all.
my $broken = { attempts => qr/^PUT (?:200 BAD_RESPONSE|NETWORK_ERROR), GET 200$/ };

# name => [ what is to become of it, code that makes the answer from the PFA id ]
my @cases = (
    # ---- sizes ----
    'a body of 300 kB' => [ $large, sub { answer(done($_[0], message => '"' . 'x' x 300_000 . '"')) } ],
    'a body of 300 kB in chunks' => [ $large, sub { chunked(join '', map { "3e8\r\n" . 'x' x 1000 . "\r\n" } 1 .. 300) } ],
    'a body of 2^63 bytes, it says' => [ $large, sub { BEGIN_OF_ANSWER . "Content-Length: 9223372036854775807\r\n\r\n{" } ],
    'a chunk of 2^63 bytes, it says' => [ { attempts => qr/^PUT 200 (?:BAD_RESPONSE|RESPONSE_TOO_LARGE), GET 200$/ },
        sub { chunked("7fffffffffffffff\r\n" . 'x' x 300_000) } ],
    'three thousand headers' => [ $large, sub { answer(done($_[0]), map { "X-$_: 0123456789abcdef" } 1 .. 3000) } ],
    'a trailer of 100 kB' => [ $large, sub { chunked("2\r\n{}\r\n0\r\n" . join('', map { "X-$_: " . 'x' x 1000 . "\r\n" } 1 .. 100) . "\r\n") } ],

    # six seconds for an answer, of the ten that a request has; but three seconds are enough of so few bytes
    'a body that drips' => [ { attempts => qr/^PUT (?:200 )?TIMEOUT, GET 200$/, fault => { slowBody => 60 } } ],

    # ---- encodings: we ask for none, and decode what comes encoded all the same ----
    'a gzip bomb' => [ $large, sub { answer(memGzip("\0" x (64 * MEGABYTE)), 'Content-Encoding: gzip') } ],
    'a small gzip bomb' => [ $large, sub { answer(memGzip("\0" x MEGABYTE), 'Content-Encoding: gzip') } ],
    'a good answer, in gzip' => [ $good, sub { answer(memGzip(done($_[0])), 'Content-Encoding: gzip') } ],
    'a good answer, in deflate' => [ $good, sub { answer(compress(done($_[0])), 'Content-Encoding: deflate') } ],
    'a good answer, in gzip and gzip again' => [ $good, sub { answer(memGzip(memGzip(done($_[0]))), 'Content-Encoding: gzip, gzip') } ],
    'an encoding that is not there' => [ { %$read, error => qr/the answer is encoded as gzip, and cannot be decoded/ },
        sub { answer(done($_[0]), 'Content-Encoding: gzip') } ],
    'an encoding that nobody knows' => [ { %$read, error => qr/the answer is encoded as rot13, and cannot be decoded/ },
        sub { answer(done($_[0]), 'Content-Encoding: rot13') } ],
    'UTF-8 with a byte order mark' => [ $good, sub { answer("\xef\xbb\xbf" . done($_[0])) } ],
    'UTF-16 with a byte order mark' => [ $read, sub { answer(encode('UTF-16', done($_[0]))) } ],
    'UTF-16, little endian' => [ $read, sub { answer(encode('UTF-16LE', done($_[0]))) } ],
    'bytes that are no UTF-8' => [ $good, sub { answer(done($_[0], message => "\"\xff\xfe\"")) } ],

    # ---- HTTP ----
    'chunks of garbage' => [ $broken, sub { chunked("zz\r\n\0\1\2\r\n") } ],
    'a chunk without a length' => [ $broken, sub { chunked("\r\n" . done($_[0])) } ],
    'chunks without an end' => [ $broken, sub { my $body = done($_[0]); chunked(sprintf "%x\r\n%s\r\n", length $body, $body) } ],
    'a negative Content-Length' => [ { attempts => qr/^PUT (?:200|200 BAD_RESPONSE, GET 200|NETWORK_ERROR, GET 200)$/ }, sub { answer(done($_[0])) =~ s/Length: /Length: -/r } ],
    'no HTTP' => [ $broken, sub { done($_[0]) } ],
    'NUL bytes before the status' => [ $broken, sub { "\0\0\0\0" . answer(done($_[0])) } ],
    'a header that is only a NUL' => [ { attempts => qr/^PUT (?:200|200 BAD_RESPONSE, GET 200|NETWORK_ERROR, GET 200)$/ }, sub { answer(done($_[0]), "X-Nul: \0\0") } ],

    # ---- JSON ----
    'NUL bytes between members' => [ $read, sub { answer(done($_[0]) =~ s/,/\0,\0/gr) } ],
    'a NUL byte in a string' => [ $read, sub { answer(done($_[0], message => "\"a\0b\"")) } ],
    'an escaped NUL in a string' => [ $good, sub { answer(done($_[0], message => '"a\\u0000b"')) } ],
    'half a surrogate' => [ $good, sub { answer(done($_[0], message => '"\\ud800"')) } ],
    '10,000 levels' => [ $good, sub { answer(done($_[0], message => $deep)) } ],
    '100,000 brackets, never closed' => [ $read, sub { answer('[' x 100_000) } ],
    'text behind the end' => [ $read, sub { answer(done($_[0]) . done($_[0])) } ],
    '60,000 keys' => [ $good, sub { answer(done($_[0], map { ("k$_" => 1) } 1 .. 20_000)) } ],

    # ---- newVersion ----
    (map { ("newVersion $_" => do { my $value = $_; [ $read, sub { answer(done($_[0], newVersion => $value)) } ] }) }
          '"2"', 2.5, -2, '1e400', '-1e400', '1e-400', '9' x 100, '99999999999', '2147483648', '9223372036854775808', 'null', 'true', '[2]', '{"value":2}', '0x2'),
    (map { ("newVersion $_" => do { my $value = $_; [ $good, sub { answer(done($_[0], newVersion => $value)) } ] }) } '2.0', '2e0', '20e-1', '0.2e1'),
    (map { ("newVersion $_" => do { my $value = $_; [ $ignored, sub { answer(done($_[0], newVersion => $value)) } ] }) } 0, 1),
    (map { ("newVersion $_" => do { my $value = $_; [ $lie, sub { answer(done($_[0], newVersion => $value)) } ] }) } 3, 2147483647),

    # ---- whose answer ----
    'pfaId of another record' => [ $read, sub { answer(done('CASE-OTHER')) } ],
    'pfaId in other letters' => [ $read, sub { answer(done(lc $_[0])) } ],
    'pfaId with more behind it' => [ $read, sub { answer(done("$_[0]x")) } ],
    'pfaId that is a number' => [ $read, sub { answer(done($_[0], pfaId => 1)) } ],
    'pfaId twice, ours first' => [ $read, sub { answer(done($_[0]) =~ s/^\{(.*)\}$/{$1,"pfaId":"CASE-OTHER"}/r) } ],
    'newVersion twice, a number first' => [ $read, sub { answer(done($_[0]) =~ s/^\{(.*)\}$/{$1,"newVersion":"x"}/r) } ],
    'success that is a text' => [ $read, sub { answer(done($_[0], success => '"true"')) } ],
    'success that is 1' => [ $read, sub { answer(done($_[0], success => 1)) } ],
    'success in capitals' => [ $read, sub { answer(done($_[0], success => 'null') =~ s/\{/{"SUCCESS":true,/r) } ],

    # ---- the rest of the answer, which nothing depends on ----
    'updatedAt that is no time' => [ $good, sub { answer(done($_[0], updatedAt => '"yesterday, \'); DROP TABLE pfa_mirror; --"')) } ],
    'updatedAt in the year 300000' => [ $good, sub { answer(done($_[0], updatedAt => '"300000-01-01T00:00:00Z"')) } ],
    'updatedAt that is a number' => [ $good, sub { answer(done($_[0], updatedAt => '1e400')) } ],
    'a message with all that deceives' => [ $good, sub { answer(done($_[0], message => '"\\u202e\\u0007\\u001b[31m<script>alert(1)</script>"')) } ],
);

my @list;
while (my ($name, $case) = splice @cases, 0, 2)
{
    my ($expected, $make) = @$case;
    push @list, { name => $name, pfa_id => sprintf('CASE-%02d', @list + 1), make => $make, status => 'synced', %$expected };
}
my %of = map { $_->{pfa_id} => $_ } @list;

# Answers to reads, by PFA id; each for the first read only.
my %data = (
    'READ-DEEP' => sub { answer('{"success":true,"pfaId":"READ-DEEP","version":2,"data":{"monthlyRate":' . $deep . '}}') },
    'READ-VERSION' => sub { answer('{"success":true,"pfaId":"READ-VERSION","version":1e400,"data":{}}') },
    'READ-LIST' => sub { answer('{"success":true,"pfaId":"READ-LIST","version":2,"data":[]}') },
    'READ-OTHER' => sub { answer('{"success":true,"pfaId":"READ-LIST","version":2,"data":{"monthlyRate":1}}') },
    'READ-NUL' => sub { answer('{"success":true,"pfaId":"READ-NUL","version":2,"data":{"description":"a\u0000b"}}') },
);

# Forms that the fake cannot send.
my $echo_utf16 = 'ECHO-UTF16';

# ---------- servers ----------

my %reads_replaced;
my $wire;

# Runs in the proxy's process.
sub replace
{
    my ($request) = @_;
    my ($method, $pfa_id) = $request =~ m{^(PUT|GET) /api/pems/pfa/([A-Z0-9-]+)} or return;
    return { bytes => $of{$pfa_id}{make}->($pfa_id) } if $method eq 'PUT' && $of{$pfa_id} && $of{$pfa_id}{make};
    return { bytes => $data{$pfa_id}->() } if $method eq 'GET' && $data{$pfa_id} && !$reads_replaced{$pfa_id}++;
    return { bytes => answer('MARK ' . encode('UTF-16LE', '"Bearer ' . TOKEN . '"')) } if $method eq 'PUT' && $pfa_id eq $echo_utf16;
    # what it should say, and one more answer that nobody has asked for, on a connection that stays
    return { bytes => (answer(done('TWO-1')) . answer(done('TWO-2'))) =~ s/Connection: close\r\n//gr, open => 1 } if $method eq 'PUT' && $pfa_id eq 'TWO-1';
    return;
}

my $t = PemsSync::Test->new('hostile',
    settings => { rate_limit => 0, retry_delay => '100ms', max_retries => 5, poll_interval => '1s', request_timeout => '10s', max_response_size => '256kB' });
my $fake = $t->fake;
$wire = PemsSync::Proxy->new(record => "$directory/wire", to => $fake->port, replace => \&replace);
$t->add_organization('MAIN', url => $wire->url('http'));
$t->load('MAIN', 'PFA-1', keys %of, keys %data, 'TWO-1', 'TWO-2', 'CASE-OTHER');
my $warm = $t->commit_edit('MAIN', 'PFA-1', { monthlyRate => 1 });
ok($t->wait_status($warm, 'synced'), 'all is well at first');
my $worker = $t->worker->{pid};

# The most memory that a process has had; kB.
sub memory
{
    my ($peak) = slurp_file("/proc/$worker/status") =~ /^VmHWM:\s+(\d+) kB/m;
    return $peak;
}
my $memory = -e "/proc/$worker/status" ? memory() : undef;

# ---------- answers to writes ----------

$fake->fault(map { { pfaId => $_->{pfa_id}, count => 1, %{ $_->{fault} } } } grep { $_->{fault} } @list);
my @ids = $t->edits('MAIN', map { [ $_->{pfa_id}, { monthlyRate => 4000 } ] } @list);
$t->commit('MAIN', \@ids);
ok($t->quiet(timeout => 180), 'all edits come to an end');
my %status   = map { $_->{id} => $_->{sync_status} } $t->rows('SELECT id, sync_status FROM pfa_modification');
my %attempts = map { $_->{id} => $_->{line} } $t->rows(<<'SQL');
SELECT modification_id AS id, string_agg(concat_ws(' ', http_method, http_status, error_code), ', ' ORDER BY at, attempt) AS line
FROM pems_audit_log WHERE http_method IS NOT NULL AND modification_id IS NOT NULL GROUP BY modification_id
SQL
my %changes;
$changes{ $_->{pfaId} }++ for $fake->changes(by => 'client');
for my $number (0 .. $#list)
{
    my ($case, $id) = ($list[$number], $ids[$number]);
    my ($name, $pfa_id) = @$case{qw(name pfa_id)};

    like($attempts{$id}, $case->{attempts}, "$name: attempts") or diag($t->item($id)->{last_error});
    like($status{$id}, ref $case->{status} ? $case->{status} : qr/^$case->{status}$/, "$name: status");
    is($changes{$pfa_id}, 1, "$name: PEMS was changed once");
    like($t->sql("SELECT error FROM pems_audit_log WHERE modification_id = '$id' AND error_code = 'BAD_RESPONSE'"), $case->{error}, "$name: the sentence")
      if $case->{error};
    $case->{id} = $id;
}
my %in_pems = map { $_->{pfaId} => $_ } @{ $fake->records };
is_deeply([ map { $_->{version} == $in_pems{ $_->{pfa_id} }{version} && $_->{data}{monthlyRate} == $in_pems{ $_->{pfa_id} }{data}{monthlyRate} ? () : $_->{pfa_id} }
          $t->rows('SELECT * FROM pfa_mirror') ], [], 'the mirror is what PEMS has');

# ---------- answers to reads ----------

# The write is lost, so that a read follows.
my @pfa_ids = sort keys %data;
$fake->fault(map { { pfaId => $_, call => 'update', emptyBody => $true, count => 1 } } @pfa_ids);
my @read_ids = $t->edits('MAIN', map { [ $_, { monthlyRate => 4000 } ] } @pfa_ids);
$t->commit('MAIN', \@read_ids);
for my $number (0 .. $#pfa_ids)
{
    my ($pfa_id, $id) = ($pfa_ids[$number], $read_ids[$number]);
    ok($t->wait_status($id, 'synced'), "$pfa_id: synced in the end");
    is($t->attempts($id), 'PUT 200 BAD_RESPONSE, GET 200 BAD_RESPONSE, GET 200', "$pfa_id: the read is not believed, and made again");
    $t->mirror_is_pems('MAIN', $pfa_id);
}

# ---------- an answer that nobody has asked for ----------

my $one = $t->commit_edit('MAIN', 'TWO-1', { monthlyRate => 4000 });
ok($t->wait_status($one, 'synced'), 'two answers to one request: the first counts');
my $two = $t->commit_edit('MAIN', 'TWO-2', { monthlyRate => 4000 });
ok($t->wait_status($two, 'synced'), 'two answers to one request: the next edit is synced');
is(scalar(my @done = $fake->changes(pfaId => 'TWO-2', by => 'client')), 1, 'two answers to one request: because PEMS was changed, not because the second said so');

# ---------- the process ----------

is($t->worker->{pid}, $worker, 'the worker is the same process as in the beginning');
SKIP:
{
    skip 'no /proc', 1 if !defined $memory;
    cmp_ok(memory() - $memory, '<', MEMORY, 'its memory is bounded');
}

# ---------- answers that repeat the token ----------

# The server logs all that it can.
$t->sql("ALTER SYSTEM SET log_min_messages = debug5; ALTER SYSTEM SET log_statement = 'all'; ALTER SYSTEM SET log_parameter_max_length_on_error = -1");
$t->node->reload;
$t->add_organization('ECHO', token => TOKEN, url => $wire->url('http'));

my $slashes = TOKEN =~ s{/}{\\/}gr;
my $codes   = join '', map { sprintf '\\u%04x', ord } split //, TOKEN;
my $mixed   = join '', map { my ($odd, $c) = ($_ % 2, substr TOKEN, $_, 1); $odd ? sprintf '\\u%04X', ord $c : $c } 0 .. length(TOKEN) - 1;
my $page    = '<html><body>Authorization: Bearer %s</body></html>';
my $percent = join '', map { /\w/ ? $_ : sprintf '%%%02X', ord } split //, TOKEN;
my $entity  = join '', map { /\w/ ? $_ : sprintf '&#x%x;', ord } split //, TOKEN;
my $decimal = join '', map { /\w/ ? $_ : sprintf '&#%d;', ord } split //, TOKEN;

# name => fault.  MARK stands in each, so that what is looked at below is known to have come.
my %echo = (
    'a text' => { status => 500, body => 'MARK Authorization: Bearer ' . TOKEN },
    'a message' => { status => 422, body => { success => $false, error => 'X', message => 'MARK Bearer ' . TOKEN . ' is not for this' } },
    'an error word' => { status => 422, body => { success => $false, error => TOKEN, message => 'MARK' } },
    'a message with escaped slashes' => { status => 422, body => "{\"success\":false,\"error\":\"X\",\"message\":\"MARK $slashes\"}" },
    'a message in escapes' => { status => 422, body => "{\"success\":false,\"error\":\"X\",\"message\":\"MARK $codes\"}" },
    'a message with every other letter in escapes' => { status => 422, body => "{\"success\":false,\"error\":\"X\",\"message\":\"MARK $mixed\"}" },
    'success:false' => { status => 200, body => { success => $false, error => 'X', message => 'MARK ' . TOKEN } },
    'a body that is no JSON' => { status => 200, body => 'MARK ' . TOKEN },
    'a page with success' => { status => 200, body => 'MARK ' . sprintf $page, TOKEN },
    'a page of an error' => { status => 502, body => sprintf $page, TOKEN },
    'a page that escapes it' => { status => 200, body => 'MARK ' . sprintf $page, $entity },
    'a page that escapes it in decimals' => { status => 200, body => 'MARK ' . sprintf $page, $decimal },
    'a text that escapes it for a URL' => { status => 500, body => "MARK $percent" },
    'UTF-16' => { pfaId => $echo_utf16 },
    'headers' => { status => 422, body => { success => $false, error => 'X', message => 'MARK' },
        headers => { 'X-Echo' => TOKEN, 'Set-Cookie' => 'token=' . TOKEN, 'WWW-Authenticate' => 'Bearer ' . TOKEN, Location => 'https://pems.example.com/' . TOKEN } },
    'Retry-After' => { retryAfter => TOKEN },
    'a redirect' => { redirect => 'https://pems.example.com/?token=' . TOKEN, status => 302 },
    'updatedAt' => { status => 200, apply => $true, body => "{\"success\":true,\"pfaId\":\"ECHO-PFA\",\"newVersion\":2,\"updatedAt\":\"$slashes\"}" },
    # half of the body is sent
    'a text that breaks off within it' => { status => 500, body => 'MARK ' . TOKEN . '!' x 10, truncate => $true },
);
my %id_of;
my $number = 0;
for my $name (sort keys %echo)
{
    my %fault  = %{ $echo{$name} };
    my $pfa_id = $fault{pfaId} // sprintf 'ECHO-%02d', ++$number;
    $fault{body} =~ s/ECHO-PFA/$pfa_id/ if defined $fault{body} && !ref $fault{body};
    $t->load('ECHO', $pfa_id);
    $fake->fault({ pfaId => $pfa_id, count => 1, %fault }) if !$fault{pfaId};
    $id_of{$name} = $t->edit('ECHO', $pfa_id, { monthlyRate => 4000 });
}
$t->commit('ECHO', [ values %id_of ]);
ok($t->quiet, 'echo: all edits come to an end');
$fake->fault({ call => 'health', status => 500, body => "HEALTH MARK $mixed", count => 1 });
my $health = $t->sql(q{SELECT pems_health_check('org-echo')});
like($health, qr/HEALTH MARK \*+/, 'echo: a health check shows an answer without it');

# A pattern for texts, or good parts of them.
sub parts_of
{
    my $parts = join '|', map { my $text = $_; map { quotemeta substr $text, 4 * $_, 12 } 0 .. (length($text) - 12) / 4 } @_;
    return qr/$parts/;
}
my $part_of_token = parts_of(TOKEN);

for my $name (sort keys %id_of)
{
    my $id   = $id_of{$name};
    my $seen = $t->sql("SELECT concat_ws(E'\\n', string_agg(to_jsonb(a)::text, E'\\n'), (SELECT to_jsonb(q)::text FROM pfa_write_queue q WHERE q.modification_id = '$id'), "
          . "(SELECT to_jsonb(m)::text FROM pfa_modification m WHERE m.id = '$id')) FROM pems_audit_log a WHERE a.modification_id = '$id'");
    # every form that was used, with all that only separates its letters taken away
    (my $bare = $seen) =~ s/\\+u00([0-9a-f]{2})/chr hex $1/gie;
    $bare =~ s/\\+//g;
    $bare =~ s/&#x([0-9a-f]+);/chr hex $1/gie;
    $bare =~ s/&#(\d+);/chr $1/ge;
    $bare =~ s/%([0-9A-F]{2})/chr hex $1/gie;
    $bare =~ s/ //g;
    is($bare =~ $part_of_token ? $& : '', '', "echo, $name: the tables do not have it");
    like($seen, qr/MARK/, "echo, $name: though they have the answer") if $echo{$name}{pfaId} || JSON::PP->new->encode($echo{$name}) =~ /MARK/;
}

# ---------- the end, and every file of the server ----------

ok($t->quiet, 'all is quiet');
$t->check('the checker is content');
is($t->worker->{pid}, $worker, 'the worker is the same process at the end');
$t->node->command_ok([ 'pg_dump', '-d', $t->node->connstr('postgres'), '-f', "$directory/dump.sql" ], 'pg_dump');
$t->sql('CHECKPOINT');
$t->node->stop('fast');

my (@with_token, @with_mark);
my $any_form = parts_of(TOKEN, $slashes, $codes, $mixed, $percent, $entity, $decimal, encode_base64(TOKEN, ''), unpack 'H*', TOKEN);
my @queue = ($t->node->data_dir, $t->node->logfile, "$directory/dump.sql");
while (defined(my $path = shift @queue))
{
    push @queue, glob "$path/*" if -d $path && !-l $path;
    next if !-f $path;
    my $text = slurp_file($path);
    push @with_token, $path if $text =~ $any_form;
    push @with_mark, $path if $text =~ /MARK/;
}
is("@with_token", '', 'no file of the server, no log and no dump has the token');
like("@with_mark", qr/\.log\b/, 'the search finds in the log what else the answers said');
like("@with_mark", qr/dump\.sql\b/, 'and in the dump');
like("@with_mark", qr{pg_wal/}, 'and in the WAL');
done_testing();
