# What the TAP tests share: a server with the extension, a fake PEMS behind it, organizations with
# credentials, records on both sides, edits, waiting for conditions, and the checker at the end.
#
#   my $t = PemsSync::Test->new('basic', settings => { rate_limit => 0 });
#   $t->add_organization('RIO');
#   $t->load('RIO', 'PFA-1', 'PFA-2');
#   my $id = $t->commit_edit('RIO', 'PFA-1', { monthlyRate => 4200 });
#   $t->wait_status($id, 'synced');
#   $t->finish;
#
# Environment: PEMS_CREDENTIAL and MOCK_PEMS name the two programs; the rest is what
# PostgreSQL::Test::Cluster needs.  Nothing is left running, whatever the test does.
package PemsSync::Test;

use strict;
use warnings;

use Carp qw(croak);
use Cwd qw(abs_path);
use File::Basename qw(dirname);
use IPC::Run;
use JSON::PP;
use POSIX ();
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes ();

use PemsSync::FakePems;

# Longest wait for something that is expected to happen soon; seconds.  On slow servers (valgrind) longer.
use constant PATIENCE => 60 * ($ENV{PEMS_PATIENCE} || 1);
# What a test says is enough is meant for a quiet machine.
use constant NOISY => 2;
use constant POLL     => 0.03;

my $json    = JSON::PP->new->canonical->allow_nonref->utf8(0);
my $checker = abs_path(dirname(__FILE__) . '/../../checker');

# ---------- server ----------

# new(NAME, settings => {...}, conf => TEXT, databases => [...], environment => {...}, start => 0, failpoints => 1):
# a server and a fake PEMS.  The settings are pems_sync's, without the prefix.  The first database gets the
# extension and is where everything below happens unless it says otherwise.  environment: variables that
# the server has, and nobody else.  failpoints: a server whose worker can be made to die at a named place;
# see has_failpoints.
sub new
{
    my ($class, $name, %options) = @_;
    my $directory = abs_path(PostgreSQL::Test::Utils::tempdir());
    my $self      = bless {
        name          => $name,
        directory     => $directory,
        databases     => $options{databases} // ['postgres'],
        environment   => $options{environment} // {},
        fakes         => {},
        organizations => {},
        edits         => 0,
    }, $class;

    $self->{db}   = $self->{databases}[0];
    $self->{node} = PostgreSQL::Test::Cluster->new($name, $options{failpoints} ? (install_path => $ENV{PEMS_FAILPOINT_PG}) : ());
    $self->{node}->init(%{ $options{init} // {} });
    $self->{key_file} = "$directory/keyring";
    $self->run_program('', 'keygen', $self->{key_file});
    $self->configure(%{ $options{settings} // {} });
    $self->{node}->append_conf('postgresql.conf', $options{conf}) if defined $options{conf};
    return $self if exists $options{start} && !$options{start};
    $self->start;
    return $self;
}

# What every server here has, and the settings of the test.
sub configure
{
    my ($self, %settings) = @_;
    my %all = (
        databases               => join(',', @{ $self->{databases} }),
        key_file                => $self->{key_file},
        allowed_hosts           => '127.0.0.1',
        allow_insecure_loopback => 'on',
        %settings);

    $self->{node}->append_conf('postgresql.conf', <<'CONF');
shared_preload_libraries = 'pems_sync'
restart_after_crash = on
track_commit_timestamp = on
log_statement = none
CONF
    $self->{node}->append_conf('postgresql.conf', join '', map { "pems_sync.$_ = '$all{$_}'\n" } sort keys %all);
    return;
}

# Start the server, the first fake, and make the extension in every database that is there.
sub start
{
    my ($self) = @_;
    {
        local %ENV = (%ENV, %{ $self->{environment} });
        $self->{node}->start;
    }
    $self->add_fake('main');
    $self->make_database($_) for @{ $self->{databases} };
    return;
}

# A database, if it is not there yet, with the extension and the application's tables.
sub make_database
{
    my ($self, $name) = @_;
    if ($name ne 'postgres')
    {
        $self->sql("CREATE DATABASE \"$name\"", db => 'postgres');
    }
    $self->sql('CREATE EXTENSION pems_sync; SELECT pems_attach(create_missing => true)', db => $name);
    return;
}

sub node      { return $_[0]{node} }
# From now on another server is meant, such as a standby that was promoted.
sub move_to   { my ($self, $node) = @_; $self->{node} = $node; return }
sub directory { return $_[0]{directory} }
sub key_file  { return $_[0]{key_file} }
sub fake      { return $_[0]{fakes}{ $_[1] // 'main' } }

# Change settings of the running server; they may take a moment to be seen.
sub set
{
    my ($self, %settings) = @_;
    my $statements = join '', map { "ALTER SYSTEM SET pems_sync.$_ = '$settings{$_}';\n" } sort keys %settings;
    $self->sql($statements . 'SELECT pg_reload_conf()', db => 'postgres');
    return;
}

# ---------- failpoints ----------

# Is there a server with failpoints?  Only `make test` builds one.
sub has_failpoints { return ($ENV{PEMS_FAILPOINT_PG} // '') ne '' }

sub failpoint_file { my ($self, $reached) = @_; return $self->{node}->data_dir . '/pems_failpoint' . ($reached ? '.reached' : '') }

# The next process that reaches the point does that, once: crash, exit, error or hang (src/shared/failpoint.c).
sub arm
{
    my ($self, $point, $action) = @_;
    unlink $self->failpoint_file(1);
    append_to_file($self->failpoint_file . '.new', "$point $action\n");
    rename $self->failpoint_file . '.new', $self->failpoint_file or croak "pems_failpoint: $!";
    return;
}

# Wait until the armed point was reached.
sub reached
{
    my ($self, $what) = @_;
    return $self->wait_until(sub { -e $self->failpoint_file(1) }, what => $what // 'a failpoint');
}

# Let a process go on that waits at the point (action wait).
sub go_on
{
    my ($self) = @_;
    unlink $self->failpoint_file(1) or croak "pems_failpoint.reached: $!";
    return;
}

# SQL that a crash may hit; true when it succeeded.  (A psql that ends before it has read its input makes
# the Perl that feeds it die.)
sub sql_succeeds
{
    my ($self, $text) = @_;
    return eval { ($self->{node}->psql('postgres', bytes($text)))[0] == 0 } // 0;
}

# Wait until the server takes connections again.
sub wait_for_server
{
    my ($self) = @_;
    return $self->wait_until(sub { $self->sql_succeeds('SELECT 1') }, what => 'the server');
}

# ---------- SQL ----------

# Texts are characters here; programs and files take UTF-8.
sub bytes
{
    my ($text) = @_;
    utf8::encode($text);
    return $text;
}

# Run SQL and return what psql prints; dies on an error.
sub sql
{
    my ($self, $text, %options) = @_;
    my $out = $self->{node}->safe_psql($options{db} // $self->{db}, bytes($text));
    utf8::decode($out);
    return $out;
}

# The rows of a query as hashes.
sub rows
{
    my ($self, $query, %options) = @_;
    my $text = $self->sql("SELECT coalesce(json_agg(q), '[]') FROM ($query) q", %options);
    return @{ $json->decode($text) };
}

sub row
{
    my ($self, $query, %options) = @_;
    my @rows = $self->rows($query, %options);
    return $rows[0];
}

# What a statement raises: "SQLSTATE message", or '' when it succeeds.
sub sql_error
{
    my ($self, $text, %options) = @_;
    my ($status, $out, $err) =
      $self->{node}->psql($options{db} // $self->{db}, bytes("\\set VERBOSITY verbose\n$text"), on_error_stop => 0);
    return $err =~ /^(?:psql:\S+ )?ERROR:\s+(.*)/m ? $1 : '';
}

sub quote
{
    my ($text) = @_;
    return 'NULL' if !defined $text;
    $text =~ s/'/''/g;
    return "'$text'";
}

sub text_array
{
    my ($ids) = @_;
    return defined $ids ? 'ARRAY[' . join(', ', map { quote($_) } @$ids) . ']::text[]' : 'NULL';
}

# Wait until a query says true.  Returns whether it did; says what was missing if not.
sub wait_for
{
    my ($self, $query, %options) = @_;
    my $what = $options{what} // $query;
    return $self->wait_until(sub { $self->sql($query, %options) eq 't' }, %options, what => $what);
}

# The same with a function of Perl.
sub wait_until
{
    my ($self, $condition, %options) = @_;
    my $end = Time::HiRes::time() + (defined $options{timeout} ? NOISY * $options{timeout} : PATIENCE);
    while (1)
    {
        return 1 if $condition->();
        last if Time::HiRes::time() > $end;
        Time::HiRes::sleep(POLL);
    }
    diag("waited in vain for: $options{what}");
    return 0;
}

# ---------- fakes and organizations ----------

# Another fake PEMS; its log is read by the checker at the end.
sub add_fake
{
    my ($self, $name, %options) = @_;
    $self->{fakes}{$name} =
      PemsSync::FakePems->new(log => "$self->{directory}/pems-$name.jsonl", %options);
    return $self->{fakes}{$name};
}

# The program pems-credential; dies when it fails.
sub run_program
{
    my ($self, $input, @arguments) = @_;
    my $program = $ENV{PEMS_CREDENTIAL} or die "PEMS_CREDENTIAL does not name the program\n";
    my ($out, $err) = ('', '');
    $input = bytes($input);
    IPC::Run::run([ $program, map { bytes($_) } @arguments ], '<', \$input, '>', \$out, '2>', \$err)
      or croak "pems-credential @arguments: $err";
    return $out;
}

sub id_of { my ($code) = @_; return 'org-' . lc $code }

# An organization on both sides, with a credential.  Options: fake (name), db, token, url (if it is another one
# than the fake's own).
sub add_organization
{
    my ($self, $code, %options) = @_;
    my $db = $options{db} // $self->{db};
    my $organization = { fake => $options{fake} // 'main', db => $db, url => $options{url} };
    my $token = $options{token} // 'token-of-' . $code =~ s/[^A-Za-z0-9]/-/gr;

    $self->{organizations}{$code} = $organization;
    $self->sql('INSERT INTO organization (id, code, name) VALUES ('
          . join(', ', map { quote($_) } id_of($code), $code, "Organization $code") . ')', db => $db);
    $self->fake($organization->{fake})->add_organization($code, $token);
    $self->set_credential($code, $token);
    return;
}

sub set_credential
{
    my ($self, $code, $token) = @_;
    my $organization = $self->{organizations}{$code};
    my $url = $organization->{url} // $self->fake($organization->{fake})->url;
    return $self->run_program("$token\n", 'set', '--organization', $code, '--url', $url,
        '-h', $self->{node}->host, '-p', $self->{node}->port, '-d', $organization->{db});
}

sub fake_of { my ($self, $code) = @_; return $self->fake($self->{organizations}{$code}{fake}) }
sub db_of   { my ($self, $code) = @_; return $self->{organizations}{$code}{db} }

# ---------- records and edits ----------

# A PFA record as PEMS sends it.
sub record_data
{
    my ($pfa_id, %more) = @_;
    return {
        pfaId => $pfa_id, areaSilo => 'Piping', category => 'Cranes', forecastCategory => 'Crawler crane', class => 'CC-280',
        source => 'Rental', dor => 'BEO', isActualized => JSON::PP::false, isDiscontinued => JSON::PP::false,
        isFundsTransferable => JSON::PP::true, monthlyRate => 5500, purchasePrice => undef, manufacturer => 'Liebherr',
        model => 'LR 1280', description => 'Crawler crane for the pipe rack', originalStart => '2025-01-01T00:00:00Z',
        originalEnd => '2025-06-30T00:00:00Z', hasPlan => JSON::PP::true, forecastStart => '2025-01-15T00:00:00Z',
        forecastEnd => '2025-06-30T00:00:00Z', actualStart => undef, actualEnd => undef, hasActuals => JSON::PP::false,
        contract => 'C-1001', equipment => 'EQ-77', lastModified => '2024-12-01T08:00:00Z', lastModifiedBy => 'planner',
        %more };
}

# Records with the same data and version 1 in PEMS and in the mirror.
sub load
{
    my ($self, $code, @pfa_ids) = @_;
    my $id = id_of($code);

    while (my @part = splice @pfa_ids, 0, 500)
    {
        my @records = map { { organizationCode => $code, pfaId => $_, version => 1, data => record_data($_) } } @part;
        $self->fake_of($code)->edit(@records);
        my $text = $json->encode(\@records);
        $self->sql(<<"SQL", db => $self->db_of($code));
INSERT INTO pfa_mirror (organization_id, pfa_id, version, data)
SELECT '$id', r->>'pfaId', (r->>'version')::integer, r->'data'
FROM jsonb_array_elements(\$json\$$text\$json\$) r;
SQL
    }
    return;
}

# PREFIX1 ... PREFIXn, loaded; returns the ids.
sub load_many
{
    my ($self, $code, $prefix, $count) = @_;
    my @pfa_ids = map { sprintf '%s%04d', $prefix, $_ } 1 .. $count;
    $self->load($code, @pfa_ids);
    return @pfa_ids;
}

# Drafts, one for each [PFA id, delta, %more]; more: by, base, operation, reason.  Returns their ids.
sub edits
{
    my ($self, $code, @edits) = @_;
    my $id = id_of($code);
    my @drafts;

    for my $edit (@edits)
    {
        my ($pfa_id, $delta, %more) = @$edit;
        push @drafts, { id => sprintf('m-%s-%06d', lc $code, ++$self->{edits}), pfaId => $pfa_id, delta => $delta // {}, %more };
    }
    my $text = $json->encode(\@drafts);
    $self->sql(<<"SQL", db => $self->db_of($code));
INSERT INTO pfa_modification (id, organization_id, pfa_id, base_version, delta, created_by, operation, change_reason)
SELECT e->>'id', '$id', e->>'pfaId',
       coalesce((e->>'base')::integer, (SELECT m.version FROM pfa_mirror m
                                        WHERE m.organization_id = '$id' AND m.pfa_id = e->>'pfaId'), 1),
       e->'delta', coalesce(e->>'by', 'user\@example.com'), coalesce(e->>'operation', 'UPDATE'), e->>'reason'
FROM jsonb_array_elements(\$json\$$text\$json\$) e;
SQL
    return map { $_->{id} } @drafts;
}

sub edit
{
    my ($self, $code, $pfa_id, $delta, %more) = @_;
    my ($id) = $self->edits($code, [ $pfa_id, $delta, %more ]);
    return $id;
}

sub commit_statement
{
    my ($code, $ids, %named) = @_;
    my @arguments = ('organization_id => ' . quote(id_of($code)), 'modification_ids => ' . text_array($ids));
    push @arguments, map { "$_ => " . quote($named{$_}) } sort keys %named;
    return 'SELECT pems_commit(' . join(', ', @arguments) . ')';
}

# pems_commit(); dies unless everything was queued.
sub commit
{
    my ($self, $code, $ids, %named) = @_;
    my $answer = $json->decode($self->sql(commit_statement($code, $ids, %named), db => $self->db_of($code)));
    croak 'pems_commit rejected: ' . $json->encode($answer->{rejected}) if @{ $answer->{rejected} };
    return $answer;
}

sub commit_edit
{
    my ($self, $code, @edit) = @_;
    my $id = $self->edit($code, @edit);
    $self->commit($code, [$id]);
    return $id;
}

# The mirror as PEMS has the record now; who wrote it there is another program, such as a pull.
sub mirror_from_pems
{
    my ($self, $code, $pfa_id) = @_;
    my $record = $self->fake_of($code)->record($code, $pfa_id);
    my $data   = $json->encode($record->{data});
    $self->sql("UPDATE pfa_mirror SET version = $record->{version}, data = \$json\$$data\$json\$ WHERE organization_id = "
          . quote(id_of($code)) . ' AND pfa_id = ' . quote($pfa_id), db => $self->db_of($code));
    return;
}

sub resolve_statement
{
    my ($conflict_id, $resolution, %named) = @_;
    my @arguments = ('conflict_id => ' . quote($conflict_id), 'resolution => ' . quote($resolution));
    $named{merged_data} = $json->encode($named{merged_data}) if defined $named{merged_data};
    push @arguments, map { "$_ => " . quote($named{$_}) } sort keys %named;
    return 'SELECT pems_resolve_conflict(' . join(', ', @arguments) . ')';
}

# pems_resolve_conflict(), with its answer; dies when it raises an error.
sub resolve
{
    my ($self, @resolution) = @_;
    return $json->decode($self->sql(resolve_statement(@resolution)));
}

# pems_retry() of modifications that are dead letters, with its answer.
sub retry
{
    my ($self, $modifications, %named) = @_;
    my $items = text_array([ map { $self->item($_)->{id} } @$modifications ]);
    my $more = join '', map { ", $_ => " . quote($named{$_}) } sort keys %named;
    return $json->decode($self->sql("SELECT pems_retry(item_ids => $items$more)"));
}

# ---------- looking ----------

# The queue's row of a modification.
sub item
{
    my ($self, $modification, %options) = @_;
    return $self->row('SELECT * FROM pfa_write_queue WHERE modification_id = ' . quote($modification), %options);
}

sub modification
{
    my ($self, $modification, %options) = @_;
    return $self->row('SELECT * FROM pfa_modification WHERE id = ' . quote($modification), %options);
}

sub mirror
{
    my ($self, $code, $pfa_id) = @_;
    return $self->row('SELECT * FROM pfa_mirror WHERE organization_id = ' . quote(id_of($code)) . ' AND pfa_id = '
          . quote($pfa_id), db => $self->db_of($code));
}

sub conflict
{
    my ($self, $modification, %options) = @_;
    return $self->row('SELECT * FROM pfa_sync_conflict WHERE modification_id = ' . quote($modification) . ' ORDER BY id DESC',
        %options);
}

# All conflicts of a modification, oldest first.
sub conflicts
{
    my ($self, $modification, %options) = @_;
    return $self->rows('SELECT * FROM pfa_sync_conflict WHERE modification_id = ' . quote($modification) . ' ORDER BY id', %options);
}

# Audit rows of a modification, oldest first; each as a hash.
sub audit
{
    my ($self, $modification, %options) = @_;
    return $self->rows('SELECT a.*, extract(epoch FROM a.at)::double precision AS at_epoch FROM pems_audit_log a '
          . 'WHERE a.modification_id = ' . quote($modification) . ' ORDER BY a.at, a.attempt NULLS FIRST', %options);
}

# The attempts of a modification in one line: "PUT 503 UNAVAILABLE, GET 200, PUT 200".
sub attempts
{
    my ($self, $modification, %options) = @_;
    my @attempts = grep { defined $_->{http_method} } $self->audit($modification, %options);
    return join ', ', map { join ' ', grep { defined } @$_{qw(http_method http_status error_code)} } @attempts;
}

# All that both sides know of one edit, as texts:
#   status     of the modification and of its item: "synced completed"
#   error      error_code of the item
#   retries    that it has used up
#   events     in the audit log
#   attempts   in the audit log, as above
#   requests   that PEMS saw: "PUT v1 409, GET 200, PUT v2 200"; 0: PEMS gave no answer
#   keys       versions in their Idempotency-Keys, "1, 2"; a key that is not of this item is shown as it is
#   changes    that PEMS made: 'v1>v2 {"monthlyRate":4000}'
#   versions   of the modification, the mirror, and PEMS: "2 2 2"
#   conflicts  kind, status and resolution: "update_update resolved_manual use_local"
sub story
{
    my ($self, $modification) = @_;
    my ($edit, $item) = ($self->modification($modification), $self->item($modification));
    my $code    = $self->sql('SELECT code FROM organization WHERE id = ' . quote($edit->{organization_id}));
    my $fake    = $self->fake_of($code);
    my %record  = (organizationCode => $code, pfaId => $edit->{pfa_id});
    my @seen    = grep { $_->{requestId} =~ /^\Q$item->{id}\E:/ } $fake->requests(%record);
    my %is_ours = map { $_->{seq} => 1 } @seen;
    my @changes = grep { defined $_->{requestSeq} && $is_ours{ $_->{requestSeq} } } $fake->changes(%record);
    my @versions = ($edit->{pems_version}, $self->mirror($code, $edit->{pfa_id})->{version}, $fake->record($code, $edit->{pfa_id})->{version});

    return {
        status   => "$edit->{sync_status} $item->{status}",
        error    => $item->{error_code},
        retries  => $item->{retry_count},
        events   => join(' ', map { $_->{event_type} } $self->audit($modification)),
        attempts => $self->attempts($modification),
        requests => join(', ', map { join ' ', $_->{method}, (defined $_->{version} ? "v$_->{version}" : ()), $_->{status} } @seen),
        keys     => join(', ', map { $_->{idempotencyKey} =~ s/^\Q$item->{id}\E://r } grep { defined $_->{idempotencyKey} } @seen),
        changes  => join(', ', map { "v$_->{fromVersion}>v$_->{toVersion} " . ($_->{deleted} ? 'deleted' : $json->encode($_->{changes})) } @changes),
        versions => join(' ', map { $_ // '-' } @versions),
        conflicts => join(', ', map { join ' ', grep { defined } @$_{qw(kind status resolution)} } $self->conflicts($modification)),
    };
}

# One test: the story of an edit is as said.  Nothing said of error, retries and conflicts: there were none.
sub story_is
{
    my ($self, $modification, $name, %expected) = @_;
    %expected = (error => undef, retries => 0, conflicts => '', %expected);
    my $story = $self->story($modification);
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    return is_deeply({ map { $_ => $story->{$_} } keys %expected }, \%expected, $name) || diag($json->encode($story));
}

# One test: the sides of a conflict, in the fields that are named: { field => [base, local, pems] }.
# A field that a side does not have is 'missing'.
sub sides_are
{
    my ($self, $conflict, $name, %expected) = @_;
    my %found;
    for my $field (keys %expected)
    {
        $found{$field} = [ map { my $side = $_ // {}; exists $side->{$field} ? $side->{$field} : 'missing' } @$conflict{qw(base_data local_data pems_data)} ];
    }
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    return is_deeply(\%found, \%expected, $name);
}

# One test: the mirror is what PEMS has.
sub mirror_is_pems
{
    my ($self, $code, $pfa_id, $name) = @_;
    my ($mirror, $record) = ($self->mirror($code, $pfa_id), $self->fake_of($code)->record($code, $pfa_id));
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    return is_deeply([ @$mirror{qw(version data)}, defined $mirror->{deleted_at} ? 1 : 0 ], [ @$record{qw(version data)}, $record->{deleted} ? 1 : 0 ],
        $name // "$code $pfa_id: the mirror is what PEMS has");
}

sub wait_status
{
    my ($self, $modification, $status, %options) = @_;
    my $ok = $self->wait_for('SELECT sync_status = ' . quote($status) . ' FROM pfa_modification WHERE id = '
          . quote($modification), what => "modification $modification $status", %options);
    diag('it is ' . $json->encode($self->item($modification, %options))) if !$ok;
    return $ok;
}

# Wait until nothing is under way any more, and what waits is held by an item that needs a person.
sub quiet
{
    my ($self, %options) = @_;
    return $self->wait_for(<<'SQL', what => 'nothing to do', %options);
SELECT NOT EXISTS (SELECT FROM pems_recheck) AND NOT EXISTS (
    SELECT FROM pfa_write_queue WHERE status = 'processing' OR (status = 'pending' AND waits_for IS DISTINCT FROM 'turn'))
SQL
}

sub worker
{
    my ($self, %options) = @_;
    return $self->row('SELECT * FROM pems_worker', %options);
}

# Wait for the worker to be running, optionally another one than PID.
sub wait_worker
{
    my ($self, %options) = @_;
    my $state = $options{state} // 'running';
    my $not   = $options{not_pid} // 0;
    return $self->wait_for(
        "SELECT EXISTS (SELECT FROM pems_worker WHERE state = '$state' AND pid IS NOT NULL AND pid <> $not)",
        what => "a worker that is $state", %options);
}

# Seconds of processor time that the worker has used.
sub worker_cpu
{
    my ($self, $pid) = @_;
    my ($numbers) = slurp_file("/proc/$pid/stat") =~ /^.*\) (.*)$/s;
    my @numbers = split ' ', $numbers;
    return ($numbers[11] + $numbers[12]) / POSIX::sysconf(POSIX::_SC_CLK_TCK());
}

# One test: while nothing happens for half a second, the worker does next to nothing.
sub is_calm
{
    my ($self, $name, %options) = @_;
    my $pid = $self->worker(%options)->{pid};
    local $Test::Builder::Level = $Test::Builder::Level + 1;
  SKIP:
    {
        skip 'no /proc', 1 if !-e "/proc/$pid/stat";
        my $before = $self->worker_cpu($pid);
        Time::HiRes::sleep(0.5);
        my $used = $self->worker_cpu($pid) - $before;
        cmp_ok($used, '<', 0.25, "the worker does not spin: $name");
    }
    return;
}

# The worker's transaction and locks as others see them: nothing while it waits for the network (I7).
sub holds_nothing
{
    my ($self, $name, %options) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my $holds = <<'SQL';
SELECT coalesce(string_agg(x.thing, ', '), 'nothing')
FROM pems_worker w JOIN pg_stat_activity s ON s.pid = w.pid
CROSS JOIN LATERAL (
    SELECT 'a transaction' WHERE s.xact_start IS NOT NULL
    UNION ALL SELECT 'an xid' WHERE s.backend_xid IS NOT NULL
    UNION ALL SELECT 'a snapshot' WHERE s.backend_xmin IS NOT NULL
    UNION ALL SELECT 'a lock on ' || coalesce(l.relation::regclass::text, l.locktype) FROM pg_locks l WHERE l.pid = w.pid) AS x (thing)
SQL
    # it may be in the middle of showing the slow requests as syncing
    my $found = '';
    $self->wait_until(sub { $found = $self->sql($holds, %options); return $found eq 'nothing' },
        what => 'a worker that holds nothing', timeout => 3);
    return is($found, 'nothing', "the worker holds nothing: $name");
}

sub log_position { my ($self) = @_; return -s $self->{node}->logfile }

sub log_since
{
    my ($self, $position) = @_;
    return slurp_file($self->{node}->logfile, $position);
}

# ---------- the end ----------

# Run the checker; one test.  Options: quiet => 0 when items may be unfinished, extra arguments.
sub check
{
    my ($self, $name, @arguments) = @_;
    my ($out, $err) = ('', '');
    my $ok = IPC::Run::run([ $self->checker_command, @arguments ], '>', \$out, '2>', \$err);
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    ok($ok, $name // 'the checker is content') ? note($out) : diag($out, $err);
    return $ok;
}

# The checker with what it needs to know of this server and its fakes.
sub checker_command
{
    my ($self) = @_;
    my %dbs = map { $_->{db} => 1 } values %{ $self->{organizations} };
    my @command = ($checker);
    push @command, map { ('--database', $self->{node}->connstr($_)) } sort keys %dbs;
    for my $name (sort keys %{ $self->{fakes} })
    {
        push @command, '--log', $self->{fakes}{$name}->log_file;
        my $file = "$self->{directory}/records-$name.json";
        push @command, '--records', $file;
        next if !$self->{fakes}{$name}{pid};
        $self->{fakes}{$name}->dump($file);
    }
    return @command;
}

# Wait for the end of all work, check, and end the test file.
sub finish
{
    my ($self, @arguments) = @_;
    ok($self->quiet, 'all is quiet');
    $self->check('the checker is content', @arguments);
    $self->{node}->stop('fast');
    done_testing();
    return;
}

1;
