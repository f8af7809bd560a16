# Read sync: what is in PEMS comes into the mirror, by full and delta pulls, of many records and of one.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../support/perl";

use JSON::PP;
use PemsSync::Test;
use Test::More;

my $t = PemsSync::Test->new('pull', settings => { rate_limit => 0, retry_delay => '100ms', poll_interval => '1h', pull_page_size => 40 });
my $json = JSON::PP->new->canonical;
$t->add_organization('RIO');
$t->add_organization('RIO2');
my $fake = $t->fake;

sub in_pems
{
    my ($code, $pfa_id, %data) = @_;
    return $fake->edit({ organizationCode => $code, pfaId => $pfa_id, data => PemsSync::Test::record_data($pfa_id, %data) });
}

# Asks for a pull and waits for its end: the job as pems_job() shows it.
sub pull
{
    my ($code, %more) = @_;
    my $pfa_id = defined $more{pfa_id} ? PemsSync::Test::quote($more{pfa_id}) : 'NULL';
    my $mode = $more{mode} // 'delta';
    my $answer = $json->decode($t->sql("SELECT pems_pull('" . PemsSync::Test::id_of($code) . "', $pfa_id, '$mode', 'anna')"));
    my $id = $answer->{jobId};
    $t->wait_for("SELECT status <> 'running' FROM pems_sync_job WHERE id = '$id'", what => 'end of the pull');
    return $json->decode($t->sql("SELECT pems_job('$id')"));
}

sub counts
{
    my ($job) = @_;
    return join ' ', $job->{status}, map { "$_ $job->{$_}" } grep { $job->{$_} } qw(created updated deleted unchanged stale quarantined);
}

sub same_as_pems
{
    my ($code, $name) = @_;
    my %pems = map { $_->{pfaId} => $_ } grep { $_->{organizationCode} eq $code } @{ $fake->records };
    my %mirror = map { $_->[0] => $_ } map { [ split /\|/, $_, 3 ] }
      split /\n/, $t->sql("SELECT pfa_id, version || CASE WHEN deleted_at IS NULL THEN '' ELSE ' deleted' END, data FROM pfa_mirror WHERE organization_id = '" . PemsSync::Test::id_of($code) . "'") // '';
    my @differ;
    for my $id (sort keys %{ { %pems, %mirror } })
    {
        my $p = $pems{$id} ? ($pems{$id}{deleted} ? 'deleted' : $pems{$id}{version}) : 'none';
        my $m = $mirror{$id} ? ($mirror{$id}[1] =~ /deleted/ ? 'deleted' : $mirror{$id}[1]) : 'none';
        push @differ, "$id: PEMS $p, mirror $m" if $p ne $m;
        push @differ, "$id: data" if $p eq $m && $p =~ /^\d+$/ && $json->encode($pems{$id}{data}) ne $json->encode($json->decode($mirror{$id}[2]));
    }
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    return is(join(', ', @differ), '', $name);
}

in_pems('RIO', "PFA-$_") for 1 .. 100;
in_pems('RIO2', "PFA-$_") for 1 .. 3;

my $job = pull('RIO');
is(counts($job), 'completed created 100', 'the first delta is a full listing');
is($job->{mode}, 'full', 'and says so');
is($job->{pages}, 3, 'of three pages');
same_as_pems('RIO', 'the mirror is what PEMS has');
is($t->sql("SELECT count(*) FROM pems_mirror_version WHERE source = 'pems' AND changed_by = 'pems.user\@example.com'"), 100, 'with its history');

is(counts(pull('RIO', mode => 'full')), 'completed unchanged 100', 'the second one changes nothing');

in_pems('RIO', 'PFA-7', monthlyRate => 7777);
in_pems('RIO', 'PFA-200');
$job = pull('RIO');
is($job->{mode}, 'delta', 'a delta');
is($job->{updated}, 1, 'what changed') or diag explain $job;
is($job->{created}, 1, 'and what is new');
same_as_pems('RIO', 'arrive');

in_pems('RIO', 'PFA-8', monthlyRate => 1);
is(counts(pull('RIO', pfa_id => 'PFA-8')), 'completed updated 1', 'a single record');
is(counts(pull('RIO', pfa_id => 'PFA-8')), 'completed unchanged 1', 'and again');
$job = pull('RIO', pfa_id => 'PFA-999');
is(counts($job), 'completed_with_failures', 'one that is nowhere');
is($job->{errorCode}, 'NOT_FOUND', 'says so');

$fake->forget('RIO', 'PFA-9');
$job = pull('RIO', mode => 'full');
is(counts($job), 'completed deleted 1 unchanged 100', 'a record that is missing is marked as deleted');
is($t->sql("SELECT count(*) FROM pfa_mirror WHERE organization_id = 'org-rio' AND deleted_at IS NOT NULL"), 1, 'that one');
is($t->sql("SELECT count(*) FROM pems_pull_seen") + $t->sql("SELECT count(*) FROM pems_pull_sorted") + $t->sql('SELECT count(*) FROM pems_pull_missing'), 0, 'nothing is left of the search');

diag $t->sql('SELECT * FROM pems_pulls');
is($t->sql("SELECT count(*) FROM pfa_mirror WHERE organization_id = 'org-rio2'"), 0, 'RIO2 was not touched');

$t->finish;
