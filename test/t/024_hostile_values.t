# Values that are legal and look dangerous: what PEMS receives, and what comes back from it, is exactly the same text.
use strict;
use warnings;
use utf8;

use FindBin;
use lib "$FindBin::RealBin/../support/perl";

use JSON::PP;
use PemsSync::Test;
use Test::More;

my %texts = (
    quotes     => q{it's "quoted" `so`},
    backslash  => q{C:\temp\new \\\\ \u0041},
    injection  => q{'; DROP TABLE organization; --},
    script     => '<script>alert(1)</script>&amp;',
    format     => '%s%n%1$s%%',
    line_ends  => "one\r\ntwo\n\nX-Evil: 1\r\n\r\n",
    controls   => "\x01\x08\x0b\x1f\x7f\x{85}\x{2028}",
    emoji      => "\x{1F4A5}\x{1F468}\x{200D}\x{1F469}",
    direction  => "\x{202E}abc\x{202C} e\x{301}",
    path       => '../../admin?x=1#y',
    blanks     => '   ',
    empty      => '',
    json       => '{"version": 99, "changes": null}',
    dollar     => '$body$ $1 $$');

my $t = PemsSync::Test->new('hostile', settings => { rate_limit => 0, poll_interval => '1h' });
# a code that must be escaped in a URL
my $code = q{R&O/ ?#"é%2e};
$t->add_organization($code);
my $fake = $t->fake;
my $organization = PemsSync::Test::id_of($code);
my $json = JSON::PP->new->canonical->allow_nonref->utf8(0);

for my $name (sort keys %texts)
{
    my $text   = $texts{$name};
    my $pfa_id = "PFA-$name" =~ s/_/-/gr;
    $t->load($code, $pfa_id);
    my $id = $t->commit_edit($code, $pfa_id, { description => $text, contract => $text }, by => "user $text", reason => $text);
    ok($t->wait_status($id, 'synced'), "$name: the edit arrives");
    my ($request) = $fake->requests(organizationCode => $code, pfaId => $pfa_id, method => 'PUT');
    is_deeply($request->{changes}, { description => $text, contract => $text }, "$name: PEMS receives these texts");
    is($request->{modifiedBy}, "user $text", "$name: and this user");
    is($fake->record($code, $pfa_id)->{data}{description}, $text, "$name: PEMS has it");
    $t->mirror_is_pems($code, $pfa_id, "$name: and so has the mirror");
    # PEMS changes another field: what is read comes back as it is
    $fake->edit({ organizationCode => $code, pfaId => $pfa_id, changes => { model => $text } });
    my $next = $t->commit_edit($code, $pfa_id, { monthlyRate => 1 });
    ok($t->wait_status($next, 'synced'), "$name: a text from PEMS is read");
    is($t->mirror($code, $pfa_id)->{data}{model}, $text, "$name: as it is");
}

# Numbers keep their digits, however many, in both directions.
my @numbers = ('0.1', '1e400', '-0', '123456789012345678901234567890.123456789', '1' . '0' x 999, '0.' . '0' x 300 . '1', '5500.00');
for my $number (0 .. $#numbers)
{
    my $pfa_id = "NUM-$number";
    $t->load($code, $pfa_id);
    my $draft = $t->edit($code, $pfa_id, { dor => 'PROJECT' });
    $t->sql("UPDATE pfa_modification SET delta = '{\"monthlyRate\": $numbers[$number]}' WHERE id = '$draft'");
    $t->commit($code, [$draft]);
    ok($t->wait_status($draft, 'synced'), "number $number: arrives");
    $t->fake->dump($t->directory . '/records.json');
    my $records = PostgreSQL::Test::Utils::slurp_file($t->directory . '/records.json');
    my ($got) = $records =~ /"$pfa_id".*?"monthlyRate":\s*([-+0-9.eE]+)/s;
    is($t->sql("SELECT ($numbers[$number])::numeric = ${got}::numeric"), 't', "number $number: PEMS has the same number");
    is($t->sql("SELECT data -> 'monthlyRate' = '$numbers[$number]'::jsonb FROM pfa_mirror WHERE organization_id = " . PemsSync::Test::quote($organization) . " AND pfa_id = '$pfa_id'"), 't', "number $number: and so has the mirror");
}

# A user's name with everything in it reaches the body only, never a header.
is(scalar(grep { ($_->{requestId} // '') !~ /^[0-9a-f-]{36}:\d+$/ } $fake->requests), 0, 'no header has anything else than ids');
$t->finish;
