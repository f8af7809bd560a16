# The soak: everything at once, at random, for as long as one likes, and then the checker.
#
# Users draft, commit, discard and resolve; others edit the same records in PEMS, make new ones and remove
# some; pulls of every kind read them, and are cancelled; PEMS misbehaves in every way that the fake knows,
# and goes back to a backup; the worker is killed, superseded and reconfigured, and the server stopped at
# once.  Then the faults end, what needs a person is decided, all is pulled, and the checker says whether
# anything was lost, duplicated or overwritten, and whether the mirror is what PEMS has.
#
#   my $soak = PemsSync::Soak->new(seconds => 60, seed => 42);
#   $soak->run;        # all that happens
#   $soak->settle;     # until nothing is left to do; true when that succeeded
#   $soak->verdict;    # { status, text, findings => { I1 => [...] } } of the checker
#   $soak->summary;    # lines for people
#
# Every decision comes from one generator that the seed starts.  The same seed does not give the same
# run twice, because the moments differ; but it gives the same mixture again.
#
# Two faults of the fake are left out: a success that is a lie (apply: false alone) and a lying 404 of a read,
# because nobody can know better than PEMS what PEMS has.  So are records that change without a new version:
# what is written on top of such a version nobody can know.  A replica lags behind for listings alone.
package PemsSync::Soak;

use strict;
use warnings;

use IPC::Run;
use JSON::PP;
use POSIX qw(WNOHANG);
use PemsSync::Test;
use Test::More;
use Time::HiRes qw(sleep time);

use constant { RECORDS => 20, NEW_RECORDS => 20, USERS => 4, ASIDES => 4 };
# Seconds for what must happen; a breaker that is open probes once a minute at worst.
use constant PATIENCE => 240;

my %fake_of = (RIO => 'main', RIO2 => 'main', PERTH => 'second');

# What a session may be told when others do the same at the same time: 55000 too late, P0002 gone, 22023 a
# resolution that breaks a rule; and the server's end: 57P01 to 57P03, 08...
my $expected_error = qr/^(?:55000|P0002|22023|57P0[123]|08\w{3})$/;

my $json = JSON::PP->new->canonical->allow_nonref->utf8(0);
my ($true, $false) = (JSON::PP::true, JSON::PP::false);

# What may happen, and how often relative to the others.
my @actions = (
    [ edit           => 26 ], [ edit_one_record => 8 ], [ commit_slowly  => 4 ],  [ commit_all => 2 ], [ roll_back => 3 ],
    [ change_in_pems => 14 ], [ delete_in_pems  => .5 ], [ restore_in_pems => 5 ], [ misbehave  => 8 ],
    [ resolve        => 9 ],  [ resolve_twice   => 1 ], [ discard        => 3 ],  [ forget     => 2 ], [ retry     => 3 ],
    [ write_sync     => 2 ],  [ pause           => 1 ], [ resume         => 3 ],  [ refuse     => .4 ], [ accept   => 2 ],
    [ reload         => 1 ],  [ hold_locks      => 3 ], [ look           => 3 ],  [ take_over  => 1.5 ],
    [ pull_one       => 5 ],  [ pull_many       => 5 ],  [ cancel        => 2 ],  [ spoil_listing => 5 ],
    [ make_in_pems   => 2 ],  [ forget_in_pems  => .5 ], [ go_back       => .5 ],
    [ terminate      => .5 ], [ kill_worker     => .4 ], [ stop_server   => .3 ]);

# ---------- helpers ----------

sub pick { return $_[ rand @_ ] }
sub chance { return rand() < $_[0] }

sub quote { return PemsSync::Test::quote($_[0]) }
sub id_of { return PemsSync::Test::id_of($_[0]) }

sub new
{
    my ($class, %options) = @_;
    my $self = bless { %options, done => {}, unexpected => [], asides => {}, drafts => 0, deleted => {}, tokens => {}, made => {}, went_back => {} }, $class;

    srand $self->{seed};
    my $t = $self->{t} = PemsSync::Test->new('soak', settings => {
        rate_limit => 0, retry_delay => '100ms', max_retries => 2, request_timeout => '1s', connect_timeout => '1s',
        max_in_flight => 8, batch_size => 16, poll_interval => '1s', pull_page_size => 7 });
    $t->add_fake('second');
    for my $code (sort keys %fake_of)
    {
        $t->add_organization($code, fake => $fake_of{$code});
        $self->{records}{$code} = [ $t->load_many($code, 'PFA-', RECORDS) ];
    }
    return $self;
}

sub codes { return sort keys %fake_of }

# Run SQL; what it prints, or undef when it failed.  Errors that nobody could expect are remembered.
sub sql
{
    my ($self, $text) = @_;
    my ($status, $out, $err) = eval {
        $self->{t}->node->psql('postgres', "\\set VERBOSITY verbose\n" . PemsSync::Test::bytes($text), on_error_stop => 1);
    };
    return if !defined $status;
    $self->judge($text, $err);
    return $status == 0 ? $out : undef;
}

sub judge
{
    my ($self, $text, $err) = @_;
    while ($err =~ /(?:ERROR|FATAL|PANIC):\s+(\w{5}): (.*)/g)
    {
        my ($state, $message) = ($1, $2);
        push @{ $self->{unexpected} }, "$state $message, at: " . substr $text, 0, 300 if $state !~ $expected_error;
    }
    return;
}

# The rows of a query, in an order that depends on the seed alone; none when the server is away.
sub choose
{
    my ($self, $query, $limit) = @_;
    my $salt = int rand 1e9;
    my $text = $self->sql("SELECT coalesce(json_agg(c), '[]') FROM (SELECT * FROM ($query) q ORDER BY md5(q.id || '$salt') LIMIT $limit) c");
    return defined $text ? @{ $json->decode($text) } : ();
}

# SQL in a session of its own, while other things happen.
sub aside
{
    my ($self, $text) = @_;
    $self->reap;
    return if keys %{ $self->{asides} } >= ASIDES;
    my $name = $self->{t}->directory . '/aside-' . ++$self->{aside_count};
    PostgreSQL::Test::Utils::append_to_file("$name.sql", PemsSync::Test::bytes($text));
    my $pid = fork // die "fork: $!";
    if ($pid == 0)
    {
        open STDOUT, '>', '/dev/null' or POSIX::_exit(1);
        open STDERR, '>', "$name.err" or POSIX::_exit(1);
        exec 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-v', 'VERBOSITY=verbose', '-d', $self->{t}->node->connstr('postgres'), '-f',
          "$name.sql"
          or POSIX::_exit(1);
    }
    $self->{asides}{$pid} = [ $name, $text ];
    return;
}

# Look at the sessions that have ended; wait => 1: at all.
sub reap
{
    my ($self, %options) = @_;
    for my $pid (keys %{ $self->{asides} })
    {
        next if waitpid($pid, $options{wait} ? 0 : WNOHANG) == 0;
        my ($name, $text) = @{ delete $self->{asides}{$pid} };
        $self->judge($text, PostgreSQL::Test::Utils::slurp_file("$name.err"));
        unlink "$name.sql", "$name.err";
    }
    return;
}

# ---------- users ----------

# A change of some fields.  Few values, so that two people often want the same one, and old ones come back.
sub delta
{
    my %values = (
        monthlyRate   => sub { 1000 * (1 + int rand 4) },
        purchasePrice => sub { pick(undef, 70000, 80000) },
        dor           => sub { pick('BEO', 'PROJECT') },
        description   => sub { pick('Crane for the pipe rack', 'Kran für die Rohrbrücke', 'spare') },
        contract      => sub { 'C-' . int rand 3 },
        isActualized  => sub { pick($true, $false) },
        # a pair that may become impossible when two people each move one end
        forecastStart => sub { '2025-0' . (1 + int rand 6) . '-15T00:00:00Z' },
        forecastEnd   => sub { '2025-0' . (4 + int rand 6) . '-30T00:00:00Z' });
    my @names = sort { $a cmp $b } keys %values;
    my %delta;
    for my $name (map { pick(@names) } 1 .. 1 + int rand 3)
    {
        $delta{$name} = $values{$name}->();
    }
    return \%delta;
}

# INSERT of a draft; most users see the newest version, some an older one.
sub draft
{
    my ($self, $code, $pfa_id, %more) = @_;
    my $id     = sprintf 'm-%06d', ++$self->{drafts};
    my $old    = chance(.15) ? 1 + int rand 3 : 0;
    my $delete = $more{operation} // (chance(.01) ? 'DELETE' : 'UPDATE');
    my $delta  = $delete eq 'DELETE' ? {} : $more{delta} // delta();
    my ($organization, $record) = (quote(id_of($code)), quote($pfa_id));
    my $user   = $more{by} // 'user' . int(rand USERS) . '@example.com';
    return ($id, sprintf <<'SQL', quote($id), $organization, $record, $organization, $record, $old, quote($json->encode($delta)), quote($user), quote($delete));
INSERT INTO pfa_modification (id, organization_id, pfa_id, base_version, delta, created_by, operation)
VALUES (%s, %s, %s, coalesce((SELECT v.version FROM pems_mirror_version v WHERE v.organization_id = %s AND v.pfa_id = %s
                              ORDER BY v.version DESC OFFSET %d LIMIT 1), 1), %s, %s, %s);
SQL
}

sub commit_of
{
    my ($code, $ids) = @_;
    return PemsSync::Test::commit_statement($code, $ids, priority => pick('normal', 'normal', 'high', 'low')) . ';';
}

# A small batch; some drafts are left behind.
sub edit
{
    my ($self)   = @_;
    my $code     = pick(codes());
    my (@ids, $drafts);
    for (1 .. 1 + int rand 4)
    {
        my ($id, $draft) = $self->draft($code, pick(@{ $self->{records}{$code} }));
        $drafts .= $draft;
        push @ids, $id if chance(.95);
    }
    $self->sql("BEGIN; $drafts" . (@ids ? commit_of($code, \@ids) : '') . ' COMMIT;');
    return;
}

# Several edits of one record behind each other, in one call or in several.
sub edit_one_record
{
    my ($self) = @_;
    my $code   = pick(codes());
    my $record = pick(@{ $self->{records}{$code} });
    my $user   = 'user' . int(rand USERS) . '@example.com';
    my @drafts = map { [ $self->draft($code, $record, chance(.7) ? (by => $user) : ()) ] } 1 .. 2 + int rand 4;
    my $together = chance(.5);
    $self->sql(join '', map { $_->[1] . ($together ? '' : commit_of($code, [ $_->[0] ])) } @drafts);
    $self->sql(commit_of($code, [ map { $_->[0] } @drafts ])) if $together;
    return;
}

# A session whose commit takes its time, so that others with higher numbers pass it.
sub commit_slowly
{
    my ($self) = @_;
    my $code = pick(codes());
    my ($id, $draft) = $self->draft($code, pick(@{ $self->{records}{$code} }));
    $self->aside("BEGIN; $draft" . commit_of($code, [$id]) . sprintf 'SELECT pg_sleep(%.2f); COMMIT;', rand .5);
    return;
}

sub commit_all
{
    my ($self) = @_;
    my $code = pick(codes());
    $self->sql(PemsSync::Test::commit_statement($code, undef, chance(.5) ? (committed_by => 'user0@example.com') : ()));
    return;
}

# Nothing of it may ever be seen in PEMS; the checker knows it as an item that was never committed.
sub roll_back
{
    my ($self) = @_;
    my $code = pick(codes());
    my ($id, $draft) = $self->draft($code, pick(@{ $self->{records}{$code} }));
    my $text = "BEGIN; $draft" . commit_of($code, [$id]) . 'ROLLBACK;';
    return chance(.5) ? $self->aside($text) : $self->sql($text);
}

sub discard
{
    my ($self) = @_;
    my ($row) = $self->choose("SELECT modification_id AS id FROM pfa_write_queue WHERE status <> 'completed'", 1);
    $self->sql('SELECT pems_discard(' . quote($row->{id}) . ", 'discarder\@example.com')") if $row;
    return;
}

# The application deletes a modification, finished or not.
sub forget
{
    my ($self) = @_;
    my ($row) = $self->choose("SELECT m.id FROM pfa_modification m WHERE m.sync_status IN ('draft', 'queued', 'conflict', 'failed')", 1);
    $self->sql('DELETE FROM pfa_modification WHERE id = ' . quote($row->{id})) if $row;
    return;
}

sub write_sync
{
    my ($self) = @_;
    $self->sql('SELECT pems_write_sync(' . quote(id_of(pick(codes()))) . ', NULL, ' . quote(pick('high', 'normal')) . ')');
    return;
}

sub hold_locks
{
    my ($self) = @_;
    my ($code, $record, $seconds) = (pick(codes()), undef, rand .6);
    $record = pick(@{ $self->{records}{$code} });
    my $where = 'organization_id = ' . quote(id_of($code)) . ' AND pfa_id = ' . quote($record);
    my $table = pick('pfa_modification', 'pfa_mirror', 'pfa_write_queue');
    $self->aside("BEGIN; SELECT FROM $table WHERE $where ORDER BY id FOR UPDATE; SELECT pg_sleep($seconds); COMMIT;");
    return;
}

# What people look at while all this happens must not fail.
sub look
{
    my ($self) = @_;
    my $id = quote(id_of(pick(codes())));
    $self->sql(pick("SELECT pems_sync_status($id)", "SELECT pems_sync_status($id, 'conflict')", "SELECT pems_conflicts($id)",
        "SELECT pems_sync_state($id, ARRAY['PFA-0001', 'PFA-0002', 'PFA-0003'])", 'SELECT count(*) FROM pems_queue',
        'SELECT count(*) FROM pems_open_conflicts', 'SELECT pems_conflict(c.id) FROM pfa_sync_conflict c ORDER BY id DESC LIMIT 3'));
    return;
}

# ---------- conflicts and dead letters ----------

# What a merge puts into PEMS: each disputed field as one of the sides, or as something new.
sub merged_data
{
    my ($conflict) = @_;
    my %merged = %{ $conflict->{local_data} };
    for my $field (@{ $conflict->{conflict_fields} })
    {
        my $choice = rand;
        my $new    = delta()->{$field};
        $merged{$field} = $choice < .4 ? $conflict->{pems_data}{$field} : $choice < .6 && defined $new ? $new : $merged{$field};
    }
    return \%merged;
}

sub resolution
{
    my ($conflict, $how) = @_;
    my $merged = $how eq 'merge' ? ', merged_data => ' . quote($json->encode(merged_data($conflict))) : '';
    return sprintf "SELECT pems_resolve_conflict('%s', '%s'%s, resolved_by => 'resolver%d\@example.com');", $conflict->{id}, $how, $merged, rand 3;
}

# A way that is open: what was deleted in PEMS can only be left so, and a deletion has nothing to merge.
sub way_out
{
    my ($conflict) = @_;
    return 'use_pems' if $conflict->{kind} eq 'deleted_in_pems';
    return $conflict->{kind} eq 'changed_in_pems_before_delete' ? pick('use_local', 'use_pems') : pick('use_local', 'use_local', 'use_pems', 'merge', 'merge');
}

sub resolve
{
    my ($self) = @_;
    my $open = "SELECT c.*, o.code FROM pfa_sync_conflict c JOIN organization o ON o.id = c.organization_id WHERE c.status = 'unresolved'";
    for my $conflict ($self->choose($open, 1 + int rand 3))
    {
        # a user who takes his time: PEMS moves on between reading and deciding
        $self->change_record($conflict->{code}, $conflict->{pfa_id}) if chance(.4);
        $self->sql(resolution($conflict, way_out($conflict)));
    }
    return;
}

sub resolve_twice
{
    my ($self) = @_;
    my ($conflict) = $self->choose("SELECT c.* FROM pfa_sync_conflict c WHERE c.status = 'unresolved'", 1);
    return if !$conflict;
    $self->aside(resolution($conflict, way_out($conflict))) for 1 .. 2;
    $self->aside('SELECT pems_discard(' . quote($conflict->{modification_id}) . ')') if chance(.3);
    return;
}

sub retry
{
    my ($self) = @_;
    return $self->sql('SELECT pems_retry(organization_id => ' . quote(id_of(pick(codes()))) . ')') if chance(.3);
    my @items = $self->choose("SELECT id FROM pfa_write_queue WHERE status = 'failed'", 2);
    $self->sql('SELECT pems_retry(' . PemsSync::Test::text_array([ map { $_->{id} } @items ]) . ", retried_by => 'boss')") if @items;
    return;
}

# ---------- PEMS ----------

sub fake { my ($self, $code) = @_; return $self->{t}->fake($fake_of{$code}) }

sub change_record
{
    my ($self, $code, $pfa_id) = @_;
    # a record that is not there cannot be changed
    eval { $self->fake($code)->edit({ organizationCode => $code, pfaId => $pfa_id, changes => delta() }) };
    return;
}

sub change_in_pems
{
    my ($self) = @_;
    my $code = pick(codes());
    $self->change_record($code, pick(@{ $self->{records}{$code} }));
    return;
}

sub delete_in_pems
{
    my ($self) = @_;
    my $code = pick(codes());
    eval { $self->fake($code)->edit({ organizationCode => $code, pfaId => pick(@{ $self->{records}{$code} }), delete => $true }) };
    return;
}

# Records that are gone, whoever deleted them, come back with a new version; the mirror learns of it from a pull, or the
# application itself writes it there.
sub restore_in_pems
{
    my ($self) = @_;
    my $code = pick(codes());
    for my $record (@{ $self->{records}{$code} })
    {
        my $known = $self->fake($code)->record($code, $record);
        next if ($known && !$known->{deleted}) || chance(.3);
        my $data = PemsSync::Test::record_data($record, %{ delta() });
        my ($version) = $self->fake($code)->edit({ organizationCode => $code, pfaId => $record, data => $data });
        next if chance(.5);
        $self->sql(sprintf 'UPDATE pfa_mirror SET version = %d, data = %s, deleted_at = NULL WHERE organization_id = %s AND pfa_id = %s AND version < %d',
            $version, quote($json->encode($data)), quote(id_of($code)), quote($record), $version);
    }
    return;
}

# A record that only PEMS has, until it is pulled; then users edit it, too.
sub make_in_pems
{
    my ($self) = @_;
    my $code = pick(codes());
    return if ($self->{made}{$code} // 0) >= NEW_RECORDS;
    my $record = sprintf 'NEW-%04d', ++$self->{made}{$code};
    $self->fake($code)->edit({ organizationCode => $code, pfaId => $record, data => PemsSync::Test::record_data($record, %{ delta() }) });
    push @{ $self->{records}{$code} }, $record;
    return;
}

# A record goes without a tombstone.
sub forget_in_pems
{
    my ($self) = @_;
    my $code = pick(codes());
    eval { $self->fake($code)->forget($code, pick(@{ $self->{records}{$code} })) };
    return;
}

# PEMS is restored from a backup: all of an organization, or some of its records.  Mostly somebody notices at once.
sub go_back
{
    my ($self) = @_;
    my $code = pick(codes());
    my @some = chance(.5) ? (pfaIds => [ map { pick(@{ $self->{records}{$code} }) } 1 .. 3 ]) : ();
    $self->fake($code)->restore($code, (chance(.5) ? (versionsBack => 1 + int rand 3) : (secondsBack => 1 + int rand 5)), @some);
    $self->{went_back}{$code}++;
    $self->pull($code, undef, 'adopt') if chance(.7);
    return;
}

# ---------- pulls ----------

sub pull
{
    my ($self, $code, $record, $mode) = @_;
    return $self->sql(sprintf 'SELECT pems_pull(%s, %s, %s, %s)', map { quote($_) } id_of($code), $record, $mode, 'puller@example.com');
}

sub pull_one
{
    my ($self) = @_;
    my $code = pick(codes());
    $self->pull($code, chance(.95) ? pick(@{ $self->{records}{$code} }) : 'NOWHERE', chance(.1) ? 'adopt' : 'delta');
    return;
}

sub pull_many
{
    my ($self) = @_;
    $self->pull(pick(codes()), undef, pick('delta', 'delta', 'full', 'full', 'adopt'));
    return;
}

sub cancel
{
    my ($self) = @_;
    my ($row) = $self->choose("SELECT id FROM pems_sync_job WHERE kind = 'pull' AND status = 'running'", 1);
    $self->sql('SELECT pems_cancel(' . quote($row->{id}) . ", cancelled_by => 'canceller\@example.com')") if $row;
    return;
}

# What listings are spoiled with: records that cannot be stored, replicas, cursors and pages.
my @bad_records = (
    { version => \'1e999999' }, { version => \'2147483648' }, { version => \'1.5' }, { version => undef },
    { data => \'[]' }, { data => \'{"text":"a\\u0000b"}' }, { data => \'{"text":"\\ud800"}' }, { data => \'{"number":1e400000}' },
    { pfaId => '../up' }, { pfaId => undef }, { organizationCode => 'ELSEWHERE' }, { organizationCode => 'RIO22' });
my @spoilers = (
    sub { { lagVersions => 1 + int rand 3 } },
    sub { { lagSeconds  => 1 + int rand 10 } },
    sub { { fromPage => 2, status => pick(400, 404, 410), error => 'CURSOR_EXPIRED' } },
    sub { { page => 1 + int rand 2, nextCursor => undef } },
    sub { { page => 2 + int rand 2, backToPage => 1 + int rand 2 } },
    sub { { page => 2, beginAgain => $true } },
    sub { { alwaysNextCursor => $true } },
    sub { { noNextCursor => $true } },
    sub { { pageSize => int rand 3 } },
    sub { { shift => pick(-3, 3) } },
    sub { { withoutDeleted => $true } },
    sub { { delayMs => pick(50, 300, 1500) } },
    sub { { status => pick(500, 503), page => 2 } },
    sub { { truncate => $true } },
    sub { { stallBody => $true } });

sub spoil_listing
{
    my ($self)  = @_;
    my $code    = pick(codes());
    my $record  = pick(@{ $self->{records}{$code} });
    my %spoiler = (call => 'list', organizationCode => $code, count => 1 + int rand 3);
    if (chance(.3))
    {
        my $text = chance(.2) ? '' : PemsSync::FakePems::raw_record(organizationCode => $code, pfaId => $record, version => 1000, %{ pick(@bad_records) });
        $spoiler{recordTexts} = { $record => $text };
    }
    elsif (chance(.2))
    {
        # others write while the client pages
        $spoiler{thenEdit} = { organizationCode => $code, pfaId => $record, changes => delta(), by => 'pems.user@example.com' };
    }
    else
    {
        %spoiler = (%spoiler, %{ pick(@spoilers)->() });
    }
    $self->fake($code)->fault(\%spoiler);
    $self->pull($code, undef, pick('delta', 'full')) if chance(.7);
    return;
}

# ---------- faults ----------

my @faults = (
    sub { { status => pick(500, 502, 503, 504) } },
    sub { { status => pick(500, 502, 503, 504), apply => $true, call => 'update' } },
    sub { { status => pick(400, 403, 422), call => pick('update', 'delete') } },
    sub { { status => 422, call => 'update' } },
    sub { { status => 404, call => 'update' } },
    sub { { status => 409, error => pick('LOCKED', 'VERSION_CONFLICT'), call => 'update' } },
    sub { { status => 412, call => 'update' } },
    sub { { retryAfter => pick('0', '1', '2') } },
    sub { { retryAfterDateSeconds => 1, dateSkewSeconds => pick(0, 3600) } },
    sub { { dropBeforeApply => $true } },
    sub { { applyThenDrop => $true } },
    sub { { applyThenDrop => $true, reset => $true } },
    sub { { truncate => $true } },
    sub { { garbage => $true } },
    sub { { html => $true } },
    sub { { emptyBody => $true } },
    sub { { wrongId => $true } },
    sub { { noNewVersion => $true } },
    sub { { newVersionBump => 1 + int rand 3, call => 'update' } },
    sub { { successFalse => pick('BUSINESS_RULE', 'VERSION_CONFLICT', 'SERVER_ERROR'), call => 'update' } },
    sub { { accepted => $true, call => 'update' } },
    sub { { redirect => 'http://127.0.0.1:1/elsewhere' } },
    sub { { endlessBody => $true } },
    sub { { hugeHeaders => $true } },
    sub { { slowBody => 20 } },
    sub { { hang => $true } },
    # some answers come in time; of others only the effect does, and some effects come after the next read
    sub { { delayMs => pick(50, 300, 1500, 2500, 4000) } },
    sub { { delayAfterApplyMs => pick(50, 300, 1500) } },
    sub { { delayMs => 500, status => 504, apply => $true, call => 'update' } });

sub misbehave
{
    my ($self) = @_;
    my $name = pick('main', 'second');
    my $fake = $self->{t}->fake($name);
    $fake->clear_faults if chance(.2);
    for (1 .. 1 + int rand 3)
    {
        my $fault = pick(@faults)->();
        @$fault{qw(count probability seed)} = (1 + int rand 3, .3 + rand .7, int rand 1000);
        $fault->{organizationCode} = pick(grep { $fake_of{$_} eq $name } codes()) if chance(.3);
        $fault->{method} = pick('PUT', 'GET') if chance(.3) && !$fault->{call};
        $fake->fault($fault);
    }
    return;
}

# PEMS takes the token away from an organization, which pauses it; and an administrator sets a new one.
sub refuse
{
    my ($self) = @_;
    my $code = pick(codes());
    $self->{tokens}{$code} = 'token-' . int rand 1e6;
    $self->fake($code)->add_organization($code, $self->{tokens}{$code});
    return;
}

sub accept
{
    my ($self) = @_;
    for my $code (sort keys %{ $self->{tokens} })
    {
        # the server may be away
        delete $self->{tokens}{$code} if eval { $self->{t}->set_credential($code, $self->{tokens}{$code}); 1 };
    }
    return;
}

# ---------- administrators, and worse ----------

sub pause  { my ($self) = @_; return $self->sql('SELECT pems_pause(' . (chance(.2) ? '' : quote(id_of(pick(codes())))) . ')') }

sub resume
{
    my ($self) = @_;
    return $self->sql(join ' ', map { "SELECT pems_resume($_);" } '', map { quote(id_of($_)) } codes());
}

sub reload
{
    my ($self) = @_;
    my %settings = (
        rate_limit => [ 0, 0, 30, 100 ], max_in_flight => [ 2, 8, 16 ], batch_size => [ 4, 16 ], max_retries => [ 1, 2, 3 ],
        refresh_after_write => [ 'auto', 'auto', 'always' ], retry_delay => [ '50ms', '200ms' ], request_timeout => [ '1s', '600ms' ],
        pull_interval => [ 0, '1s', '5s' ], pull_page_size => [ 3, 7, 500 ], pull_overlap => [ 0, '1min' ], pull_max_missing => [ 10, 50 ]);
    my $name = pick(sort keys %settings);
    $self->sql(sprintf "ALTER SYSTEM SET pems_sync.%s = '%s'; SELECT pg_reload_conf();", $name, pick(@{ $settings{$name} }));
    return;
}

# Mostly there is something under way when one of the next things happens, some of it applied already.
sub get_busy
{
    my ($self) = @_;
    return if chance(.3);
    for my $name ('main', 'second')
    {
        $self->{t}->fake($name)->fault({ pick('delayMs', 'delayAfterApplyMs') => 100 + int rand 600, count => 4, call => 'update' });
    }
    $self->edit for 1 .. 4;
    $self->pull(pick(codes()), undef, 'full') if chance(.5);
    my $end = time + .5;
    while (time < $end)
    {
        my $count = $self->sql("SELECT count(*) FROM pfa_write_queue WHERE status = 'processing'");
        last if !defined $count || $count > 0;
    }
    sleep rand .2;
    return;
}

# Somebody else takes up what the living worker has under way: the answers that come are no longer its own.
# Sometimes again and again, so that it meets the worker while that records.
sub take_over
{
    my ($self) = @_;
    $self->get_busy;
    my $adopt = "SET ROLE pems_sync_worker;\n" . "SELECT _pems_put_back_orphans(), _pems_pull_put_back(); SELECT pg_sleep(0.02);\n" x (chance(.5) ? 1 : 20);
    return chance(.5) ? $self->aside($adopt) : $self->sql($adopt);
}

sub worker_pid
{
    my ($self) = @_;
    my $pid = $self->sql('SELECT pid FROM pems_worker WHERE pid IS NOT NULL');
    return defined $pid && $pid =~ /^(\d+)$/ ? $1 : undef;
}

sub signal
{
    my ($self, $signal) = @_;
    $self->get_busy;
    my $pid = $self->worker_pid;
    return if !$pid || !kill $signal, $pid;
    $self->wait_server if $signal eq 'KILL' && $self->{t}->wait_until(sub { !kill 0, $pid }, what => 'the end of the worker');
    return;
}

sub terminate   { $_[0]->signal('TERM'); return }
sub kill_worker { $_[0]->signal('KILL'); return }

sub stop_server
{
    my ($self) = @_;
    $self->get_busy;
    $self->{t}->node->stop('immediate');
    $self->{t}->node->start;
    return;
}

sub wait_server
{
    my ($self) = @_;
    return $self->{t}->wait_until(sub { defined $self->sql('SELECT 1') }, what => 'the server', timeout => PATIENCE);
}

# ---------- the run ----------

# First everything once, in some order, then at random until the time is over.
sub run
{
    my ($self) = @_;
    my $end    = time + $self->{seconds};
    my $weight = 0;
    $weight += $_->[1] for @actions;
    my @first = map { $_->[1] } sort { $a->[0] <=> $b->[0] } map { [ rand, $_->[0] ] } @actions;

    while (time < $end || @first)
    {
        my $action = @first && chance(.2) ? shift @first : weighted($weight);
        $self->{done}{$action}++;
        $self->$action;
        $self->reap;
        sleep rand .02;
    }
    $self->reap(wait => 1);
    return;
}

sub weighted
{
    my ($weight) = @_;
    my $point = rand $weight;
    for my $action (@actions)
    {
        return $action->[0] if ($point -= $action->[1]) < 0;
    }
    return $actions[0][0];
}

# ---------- the end ----------

# PEMS behaves, everybody may send, nobody has anything locked.
sub calm_down
{
    my ($self) = @_;
    $_->clear_faults for map { $self->{t}->fake($_) } 'main', 'second';
    $self->wait_server;
    $self->{t}->set(rate_limit => 0, max_in_flight => 8, batch_size => 16, max_retries => 2, request_timeout => '5s',
        pull_interval => 0, pull_page_size => 7, pull_max_missing => 100);
    $self->accept;
    $self->resume;
    return;
}

# Decide whatever needs a person.  Returns how much there was.
sub decide
{
    my ($self, $round) = @_;
    my @conflicts = $self->choose("SELECT * FROM pfa_sync_conflict WHERE status = 'unresolved'", 10000);
    my @failed    = $self->choose("SELECT id, modification_id FROM pfa_write_queue WHERE status = 'failed'", 10000);
    for my $conflict (@conflicts)
    {
        my $done = $self->sql(resolution($conflict, $round < 6 ? way_out($conflict) : 'use_pems'));
        # the record with ours would break a rule
        $self->sql(resolution($conflict, 'use_pems')) if !defined $done;
    }
    if ($round < 4)
    {
        $self->sql('SELECT pems_retry(' . PemsSync::Test::text_array([ map { $_->{id} } @failed ]) . ')') if @failed;
    }
    else
    {
        $self->sql('SELECT pems_discard(' . quote($_->{modification_id}) . ')') for @failed;
    }
    return @conflicts + @failed;
}

sub until_nothing_is_left
{
    my ($self) = @_;
    # one round for each edit of the longest row that waits behind a conflict
    for my $round (1 .. 2000)
    {
        return 0 if !$self->{t}->quiet(timeout => PATIENCE);
        return 1 if !$self->decide($round);
    }
    return 0;
}

# Every record is written once more, so that the checker compares them all with PEMS.
sub touch_all
{
    my ($self) = @_;
    for my $code (codes())
    {
        my @drafts = map { [ $self->draft($code, $_, operation => 'UPDATE', by => 'last@example.com', delta => { equipment => "EQ-$_" }) ] } @{ $self->{records}{$code} };
        $self->sql(join('', map { $_->[1] } @drafts) . PemsSync::Test::commit_statement($code, [ map { $_->[0] } @drafts ]));
    }
    return;
}

# Wait until no pull is left: after some failures they wait for a minute.
sub pulls_are_over
{
    my ($self) = @_;
    return $self->{t}->wait_for("SELECT NOT EXISTS (SELECT FROM pems_sync_job WHERE kind = 'pull' AND status = 'running')",
        what => 'the end of all pulls', timeout => PATIENCE);
}

# All that PEMS has, also where it went back to a backup.
sub pull_all
{
    my ($self) = @_;
    return 0 if !$self->pulls_are_over;
    $self->pull($_, undef, $self->{went_back}{$_} ? 'adopt' : 'full') for codes();
    return $self->pulls_are_over;
}

# Effects that the fake still holds back come before the last look.
sub wait_for_pems
{
    my ($self) = @_;
    for my $fake (map { $self->{t}->fake($_) } 'main', 'second')
    {
        return 0 if !$self->{t}->wait_until(sub { !$fake->stats->{waiting} }, what => 'the requests that PEMS holds back');
    }
    return 1;
}

sub settle
{
    my ($self) = @_;
    $self->calm_down;
    my $settled = $self->until_nothing_is_left && $self->wait_for_pems;
    $self->touch_all;
    return $self->until_nothing_is_left && $self->pull_all && $settled;
}

# What the checker says.
sub verdict
{
    my ($self) = @_;
    my ($out, $err, $invariant, %findings) = ('', '');
    my $begin = time;
    IPC::Run::run([ $self->{t}->checker_command, '--complete' ], '>', \$out, '2>', \$err);
    my $status = $? >> 8;
    for my $line (split /\n/, $out)
    {
        $invariant = $1 if $line =~ /^(?:not )?ok \d+ - (\S+)/;
        push @{ $findings{$invariant} }, $1 if defined $invariant && $line =~ /^#   (.*)/;
    }
    $self->{verdict} = { status => $status, text => $out . $err, findings => \%findings, seconds => time - $begin };
    return $self->{verdict};
}

# How often each fault fired: {name => times}.
sub faults_fired
{
    my ($self) = @_;
    my %fired;
    for my $name ('main', 'second')
    {
        open my $log, '<', $self->{t}->fake($name)->log_file or die "log: $!";
        while (my $line = readline $log)
        {
            $fired{$1}++ if $line =~ /"kind":"request".*"fault":"([^"]+)"/;
        }
    }
    return \%fired;
}

sub summary
{
    my ($self) = @_;
    my ($done, $t, $found) = ($self->{done}, $self->{t}, $self->{verdict}{findings});
    my $fired = $self->faults_fired;
    my $fired_total = 0;
    $fired_total += $_ for values %$fired;
    my $row = $t->row(<<'SQL');
SELECT (SELECT count(*) FROM pems_audit_log WHERE event_type = 'COMMITTED') AS committed,
       (SELECT count(*) FROM pems_audit_log WHERE http_method IS NOT NULL) AS requests,
       (SELECT count(*) FROM pems_audit_log WHERE error_code = 'OUTCOME_UNKNOWN') AS lost_claims,
       (SELECT count(*) FROM pfa_sync_conflict) AS conflicts,
       (SELECT count(*) FROM pfa_sync_conflict WHERE previous_conflict_id IS NOT NULL) AS again,
       (SELECT string_agg(format('%s %s', k.n, k.kind), ', ' ORDER BY k.kind) FROM (SELECT kind, count(*) AS n
            FROM pfa_sync_conflict GROUP BY kind) k) AS kinds,
       (SELECT string_agg(format('%s %s', r.n, r.how), ', ' ORDER BY r.how) FROM (SELECT a.request ->> 'resolution' AS how, count(*) AS n
            FROM pems_audit_log a WHERE a.event_type = 'CONFLICT_RESOLVED' GROUP BY 1) r) AS resolutions,
       (SELECT count(*) FROM pems_audit_log WHERE event_type = 'DISCARDED') AS discarded,
       (SELECT count(*) FROM pems_audit_log WHERE event_type = 'RETRIED') AS retried,
       (SELECT string_agg(format('%s %s', q.n, q.status), ', ' ORDER BY q.status) FROM (SELECT status, count(*) AS n
            FROM pfa_write_queue GROUP BY status) q) AS ended,
       (SELECT string_agg(format('%s %s %s', p.n, p.mode, p.status), ', ' ORDER BY p.mode, p.status) FROM (SELECT s.mode, j.status, count(*) AS n
            FROM pems_pull_state s JOIN pems_sync_job j ON j.id = s.job_id GROUP BY 1, 2) p) AS pulls,
       (SELECT sum(requests) FROM pems_pull_state) AS pull_requests, (SELECT sum(records) FROM pems_pull_state) AS pulled,
       (SELECT sum(quarantined) FROM pems_pull_state) AS quarantined, (SELECT sum(stale) FROM pems_pull_state) AS stale,
       (SELECT sum(deleted) FROM pems_pull_state) AS deleted, (SELECT count(*) FROM pems_audit_log WHERE event_type = 'ADOPTED') AS adopted
SQL
    my %lost = map { $_ => scalar @{ $found->{$_} // [] } } qw(I1 I3 I4);
    return (
        "SEED=$self->{seed}, $self->{seconds} s",
        "edits committed: $row->{committed}, requests: $row->{requests}; items ended as $row->{ended}",
        "conflicts found: $row->{conflicts} (" . ($row->{kinds} // 'none') . "), $row->{again} of them once more after a resolution; resolutions: " . ($row->{resolutions} // 'none')
          . "; discarded: $row->{discarded}, dead letters retried: $row->{retried}",
        "worker killed: $done->{kill_worker}, terminated: $done->{terminate}, superseded: $done->{take_over}; server stopped at once: "
          . "$done->{stop_server}; claims taken up: $row->{lost_claims}",
        "pulls: $row->{pulls}; requests: $row->{pull_requests}, records: $row->{pulled}, deleted: $row->{deleted}, quarantined: $row->{quarantined}, "
          . "stale: $row->{stale}; PEMS went back: $done->{go_back}, versions adopted: $row->{adopted}",
        "faults fired: $fired_total: " . join(', ', map { "$fired->{$_} $_" } sort keys %$fired),
        sprintf('lost %d, duplicated %d, overwritten %d (checker: %.1f s)', @lost{qw(I1 I4 I3)}, $self->{verdict}{seconds}));
}

1;
