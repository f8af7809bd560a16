# What the tests of read sync share: records in PEMS, pulls and what came of them, the mirror beside PEMS.
#
#   my $p = PemsSync::Pulls->new($t);
#   $p->in_pems('RIO', 'PFA-1', monthlyRate => 1);
#   my $job = $p->pull('RIO', mode => 'full');
#   is(PemsSync::Pulls::counts($job), 'completed created 1', '...');
package PemsSync::Pulls;

use strict;
use warnings;

use JSON::PP;
use Test::More;

use PemsSync::FakePems;
use PemsSync::Test;

my $json = JSON::PP->new->canonical->allow_nonref->utf8(0);

sub new
{
    my ($class, $test) = @_;
    return bless { test => $test }, $class;
}

# ---------- PEMS ----------

# A record in PEMS as somebody there writes it.  A reference to a hash behind the id: more members of the edit.
sub in_pems
{
    my ($self, $code, $pfa_id, @more) = @_;
    my %edit = ref $more[0] ? %{ shift @more } : ();
    return $self->{test}->fake_of($code)
      ->edit({ organizationCode => $code, pfaId => $pfa_id, data => PemsSync::Test::record_data($pfa_id, @more), %edit });
}

# So many records, PREFIX0001 and so on; returns their ids.
sub many_in_pems
{
    my ($self, $code, $prefix, $count, %edit) = @_;
    my @ids = map { sprintf '%s%04d', $prefix, $_ } 1 .. $count;
    my @left = @ids;
    while (my @part = splice @left, 0, 500)
    {
        $self->{test}->fake_of($code)
          ->edit(map { { organizationCode => $code, pfaId => $_, data => PemsSync::Test::record_data($_), %edit } } @part);
    }
    return @ids;
}

# A record as PEMS sends it, for replace_records(): see raw_record() of FakePems.  It names no organization.
sub raw { my (%members) = @_; return PemsSync::FakePems::raw_record(organizationCode => undef, %members) }

# An organization with so many records on both sides: pulled.
sub organization
{
    my ($self, $code, $count, %options) = @_;
    $self->{test}->add_organization($code, %options);
    my @ids = $self->many_in_pems($code, 'PFA-', $count);
    my $job = $self->pull($code);
    $job->{status} eq 'completed' or BAIL_OUT("the first pull of $code: " . $json->encode($job));
    return @ids;
}

# ---------- pulls ----------

# pems_pull(): the id of its job.  Options: pfa_id, mode, by.
sub begin
{
    my ($self, $code, %options) = @_;
    my @arguments = map { PemsSync::Test::quote($_) } PemsSync::Test::id_of($code), $options{pfa_id}, $options{mode} // 'delta', $options{by} // 'anna';
    return $json->decode($self->{test}->sql('SELECT pems_pull(' . join(', ', @arguments) . ')', db => $self->{test}->db_of($code)))->{jobId};
}

sub job
{
    my ($self, $id) = @_;
    return $json->decode($self->{test}->sql("SELECT pems_job('$id')"));
}

# Wait for its end; returns the job.
sub end
{
    my ($self, $id, %options) = @_;
    $self->{test}->wait_for("SELECT status <> 'running' FROM pems_sync_job WHERE id = '$id'", what => 'the end of the pull', %options)
      or diag($self->{test}->sql("SELECT s FROM pems_pull_state s WHERE job_id = '$id'"));
    return $self->job($id);
}

sub pull
{
    my ($self, $code, %options) = @_;
    return $self->end($self->begin($code, %options));
}

# "completed created 3 unchanged 7"
sub counts
{
    my ($job) = @_;
    return join ' ', $job->{status}, map { "$_ $job->{$_}" } grep { $job->{$_} } qw(created updated deleted unchanged stale quarantined);
}

sub state
{
    my ($self, $id) = @_;
    return $self->{test}->row("SELECT * FROM pems_pull_state WHERE job_id = '$id'");
}

sub watermark
{
    my ($self, $code) = @_;
    return $self->{test}->sql("SELECT watermark FROM pems_pull_organization WHERE organization_id = '" . PemsSync::Test::id_of($code) . "'");
}

# The pages that PEMS was asked for, as "1 2 3", since a mark of the fake's log.
sub pages_asked
{
    my ($self, $code, $since) = @_;
    return join ' ', map { $_->{page} } $self->{test}->fake_of($code)->listings(organizationCode => $code, since => $since // 0);
}

# ---------- what is there ----------

sub quarantine
{
    my ($self, $code) = @_;
    return $self->{test}->rows("SELECT * FROM pems_quarantine WHERE organization_id = '" . PemsSync::Test::id_of($code) . "' ORDER BY pfa_id, at");
}

# All problems of pems_health() that match.
sub problems
{
    my ($self, $pattern) = @_;
    return grep { $_ =~ $pattern } @{ $json->decode($self->{test}->sql('SELECT pems_health()'))->{problems} };
}

# The states of a record, oldest first: "1 external, 2 write anna".
sub history
{
    my ($self, $code, $pfa_id) = @_;
    return join ', ', map { join ' ', grep { defined } @$_{qw(version source changed_by change_reason)} }
      $self->{test}->rows('SELECT * FROM pems_mirror_version WHERE organization_id = ' . PemsSync::Test::quote(PemsSync::Test::id_of($code)) . ' AND pfa_id = '
          . PemsSync::Test::quote($pfa_id) . ' ORDER BY state_seq');
}

# One test: the mirror of an organization is what PEMS has.  (Deleted is deleted, whether or not PEMS remembers.)
sub same_as_pems
{
    my ($self, $code, $name) = @_;
    my $t    = $self->{test};
    my $file = $t->directory . '/pems-now.json';
    $t->fake_of($code)->dump($file);
    my ($id, $organization) = (PemsSync::Test::quote(PemsSync::Test::id_of($code)), PemsSync::Test::quote($code));
    my $differ = $t->sql(<<"SQL");
WITH pems AS MATERIALIZED (
    SELECT r ->> 'pfaId' AS pfa_id, (r ->> 'version')::integer AS version, r -> 'data' AS data
    FROM jsonb_array_elements(pg_read_file('$file')::jsonb -> 'records') r
    WHERE r ->> 'organizationCode' = $organization AND NOT (r ->> 'deleted')::boolean)
SELECT string_agg(d.line, ', ') FROM (
    SELECT pfa_id || ': ' || CASE WHEN p.version IS NOT DISTINCT FROM m.version THEN 'data'
                                  ELSE concat('PEMS ', coalesce(p.version::text, 'none'), ', mirror ', coalesce(m.version::text, 'none')) END AS line
    FROM pems p FULL JOIN (SELECT * FROM pfa_mirror WHERE organization_id = $id AND deleted_at IS NULL) m USING (pfa_id)
    WHERE (p.version, p.data) IS DISTINCT FROM (m.version, m.data) ORDER BY pfa_id LIMIT 10) d
SQL
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    return is($differ, '', $name // "$code: the mirror is what PEMS has");
}

# One test: nothing is left of the working tables.
sub nothing_left
{
    my ($self, $name) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    return is($self->{test}->sql('SELECT (SELECT count(*) FROM pems_pull_seen), (SELECT count(*) FROM pems_pull_sorted), (SELECT count(*) FROM pems_pull_missing)'),
        '0|0|0', $name // 'nothing is left of the search');
}

1;
