/* data/story_plots: the rules of the stories. The language of the templates is in story_grammar.h.
 *
 * A story is an opening (who lives where with whom and loves to do what), one of fifteen plots,
 * each a chain of beats, and a closing that remembers something said earlier. Later beats may
 * only speak of what every way through the earlier ones has drawn; the compiler of the tables
 * holds us to that. Templates of one rule must part ways in what they print (aa__story_check),
 * which is why siblings begin differently.
 */
#include "data/story_grammar.h"

const aa__story_rule_row aa__story_rules[] = {
    {"story", 1, "<opening> <habit> <plot> <closing>"},

    {"opening", 4, "Once upon a time, there was {+a hero.kind} named {hero}. {hero.He} lived in "
        "{+a home} with {hero.his} {+elder}."},
    {"opening", 3, "{+hero} was {a hero.kind} who lived in {+a home} with {hero.his} {+elder}."},
    {"opening", 2, "In {+a home} lived {+a hero.kind} called {hero} and {hero.his} {+elder}."},
    {"opening", 2, "There once was {+a hero.kind} whose name was {hero}. {hero.He} and "
        "{hero.his} {+elder} lived in {+a home}."},
    {"opening", 1, "Not long ago, {+a hero.kind} named {hero} lived in {+a home} with {hero.his} "
        "{+elder}."},

    {"habit", 4, "{hero.He} loved {+hobby}."},
    {"habit", 2, "More than anything else, {hero} liked {+hobby}."},
    {"habit", 2, "Everyone knew that {hero} was {+trait} and loved {+hobby}."},
    {"habit", 1, "{hero} had {+a color} hat, {+number} good friends and a big wish: {hero.he} "
        "wanted to spend every day {+hobby}."},
    {"habit", 1, "Nobody was better at {+hobby} than {hero}."},
    {"habit", 1, "{hero} was {+trait}, and {hero.his} favorite thing in the world was {+hobby}."},
    {"habit", 1, "Almost every day {hero.he} spent a long time {+hobby}."},

    {"day", 5, "One {+weather} {+time},"},
    {"day", 2, "It was {+a weather} {+time}. {weather.look}. Right after {time.meal},"},
    {"day", 2, "On {+a weather} {+weekday} {+time},"},
    {"day", 1, "Then came {+a weather} {+weekday} {+time}. {weather.look}. Right after "
        "{time.meal},"},

    {"closing", 2, "That night, {hero} lay in bed and listened to {weather.night}. It had been a "
        "good day."},
    {"closing", 2, "When {hero} fell asleep that night, {hero.he} was still smiling."},
    {"closing", 2, "The next day, {hero} went back to {hobby}, but {hero.he} never forgot that "
        "{weather} day."},
    {"closing", 1, "And whenever {hero} heard {weather.night}, {hero.he} thought of that day."},
    {"closing", 2, "`What a day!` said {hero.his} {elder}, and they both laughed."},
    {"closing", 2, "In the evening there was {+meal} for dinner, and {hero} told {hero.his} "
        "{elder} the whole story."},
    {"closing", 3, "`{+Saying},` {hero.his} {elder} liked to say."},
    {"closing", 1, "Before going to bed, {hero} drew {+a color} picture of it all and hung it on "
        "the wall."},
    {"closing", 1, "Back in the {home}, {hero} told {hero.his} {elder} everything, from the "
        "beginning to the end."},
    {"closing", 1, "Since then, {hero} has had two favorite things: {hobby} and telling this "
        "story."},

    /* said of the hero, in many plots */
    {"said", 6, "said"},
    {"said", 1, "whispered"},
    {"said", 1, "answered"},
    {"cried", 3, "cried"},
    {"cried", 2, "shouted"},
    {"cried", 2, "called"},
    {"asked", 5, "asked"},
    {"asked", 1, "wondered"},
    {"gear", 3, ""},
    {"gear", 1, "{hero.He} was wearing {hero.his} {weather.gear}. "},
    {"gear", 1, "{hero.His} {weather.gear} was just right for such weather. "},
    {"passing", 5, ""},
    {"passing", 1, "{+A beast} looked over the fence and shook its head. "},
    {"passing", 1, "Somewhere far away {+a beast} was calling. "},
    {"sorrow", 2, "{hero} felt very {+sad}."},
    {"sorrow", 1, "Poor {hero} was so {+sad} that {hero.he} could not eat."},
    {"sorrow", 1, "A big tear rolled down {hero}'s nose."},
    {"sorrow", 1, "{hero} did not know whether to cry or to shout."},
    {"sorrow", 1, "That made {hero} {+sad}."},
    {"sorrow", 1, "{hero.He} sat down on the floor and sighed."},
    {"joy", 2, "{hero} was so {+glad} that {hero.he} jumped up and down."},
    {"joy", 1, "{hero} felt as light as a feather."},
    {"joy", 1, "{hero.His} smile went from one ear to the other."},
    {"joy", 1, "How {+glad} {hero} was!"},
    {"joy", 1, "Nobody in the whole town was as {+glad} as {hero}."},
    {"joy", 1, "{hero.He} laughed and turned around three times."},
    {"joy", 1, "`Hooray!` {hero} <cried>."},
    {"meet", 2, "{+friend}, {hero.his} best friend, lived next door."},
    {"meet", 1, "{hero} had a good friend whose name was {+friend}."},
    {"meet", 1, "{hero} and {+friend} did everything together."},
    {"meet", 1, "Not far away lived {+a friend.kind} named {friend}."},

    {"plot", 4, "<lost>"},
    {"plot", 3, "<share>"},
    {"plot", 3, "<tempest>"},
    {"plot", 3, "<learn>"},
    {"plot", 3, "<secret>"},
    {"plot", 3, "<rescue>"},
    {"plot", 3, "<present>"},
    {"plot", 3, "<broken>"},
    {"plot", 3, "<afraid>"},
    {"plot", 3, "<race>"},
    {"plot", 3, "<garden>"},
    {"plot", 3, "<bake>"},
    {"plot", 3, "<truth>"},
    {"plot", 3, "<neighbor>"},
    {"plot", 3, "<sail>"},

    /* ---- something is lost and found ---- */
    {"lost", 1, "<lost_have> <day> <lost_gone> <lost_ask> <passing><lost_look> <lost_find> <joy> "
        "<lost_end>"},
    {"lost_have", 2, "{hero.His} best thing was {+a look} {+color} {+treasure}."},
    {"lost_have", 2, "{hero} had {+a look} {+color} {+treasure} that went everywhere with "
        "{hero.him}."},
    {"lost_have", 1, "For {hero.his} birthday, {hero} had been given {+a look} {+color} "
        "{+treasure}."},
    {"lost_have", 1, "Of all {hero.his} things, {hero} loved one {+look} {+color} {+treasure} "
        "the most."},
    {"lost_have", 1, "A long time ago, {hero.his} {elder} had given {hero.him} {+a look} "
        "{+color} {+treasure}."},
    {"lost_gone", 2, "{hero} looked for the {treasure}, but it was gone. <sorrow>"},
    {"lost_gone", 2, "{hero} wanted to play with the {color} {treasure}, but it was not there. "
        "<sorrow>"},
    {"lost_gone", 1, "{hero} reached for the {treasure} and found nothing at all. `Oh no! Where "
        "is my {color} {treasure}?` {hero.he} <cried>."},
    {"lost_gone", 1, "the {color} {treasure} was missing. `Where can it be?` <asked> {hero}. "
        "<sorrow>"},
    {"lost_ask", 2, "`Have you seen my {treasure}?` {hero} asked {hero.his} {elder}. `No,` said "
        "{hero.his} {elder}, `but I will help you look.`"},
    {"lost_ask", 1, "{hero.His} {elder} saw {hero.his} face and put the broom away. `Two pairs "
        "of eyes see more than one,` {elder.he} said."},
    {"lost_ask", 1, "`Do not cry,` said {hero.his} {elder}. `Things do not run away. We only "
        "have to think.`"},
    {"lost_ask", 1, "{hero.His} {elder} asked, `Where did you have it last?` But {hero} could "
        "not remember."},
    {"lost_look", 2, "They looked {+nook1}, but there was only {+a junk1}. They looked {+nook2} "
        "and found {+a junk2}, but no {treasure}."},
    {"lost_look", 1, "First they searched {+nook1}. There was {+a junk1} and nothing else. Then "
        "they searched {+nook2}. There was {+a junk2}, but the {treasure} was not there."},
    {"lost_look", 1, "`Maybe it is {+nook1},` said {hero}. It was not. All they found was {+a "
        "junk1}. `Maybe it is {+nook2},` said {hero.his} {elder}. But that was only {+a junk2}."},
    {"lost_find", 2, "At last {hero} looked {+nook3}. There was the {color} {treasure}! "
        "{nook3.why}."},
    {"lost_find", 1, "Then {hero.his} {elder} had an idea and looked {+nook3}. `Is this what you "
        "miss?` {elder.he} asked and held up the {color} {treasure}. {nook3.why}."},
    {"lost_find", 1, "Something {color} was shining {+nook3}. It was the {treasure}! {nook3.why}."},
    {"lost_end", 2, "From then on, {hero} kept the {treasure} {+safe}."},
    {"lost_end", 1, "`Next time I will put it away,` <said> {hero}, and so {hero.he} did: the "
        "{treasure} was always {+safe}."},
    {"lost_end", 1, "{hero} thanked {hero.his} {elder}, and together they found a new place for "
        "the {treasure}: {+safe}."},

    /* ---- sharing comes back ---- */
    {"share", 1, "<day> <share_go> <share_meet> <share_why> <share_doubt><share_give> "
        "<share_eat> <share_back> <share_end>"},
    {"share_go", 2, "{hero} took {+a container} of {+treat} and went to the {+place}. <gear>The "
        "path was long."},
    {"share_go", 1, "{hero.his} {elder} gave {hero} {+a container} of {+treat}. `Eat them "
        "{+place.at},` {elder.he} said. `The air makes you hungry.`"},
    {"share_go", 1, "{hero} packed {+a container} full of {+treat} and walked all the way to the "
        "{+place}."},
    {"share_meet", 2, "There {hero.he} met {hero.his} friend {+friend}, who looked {+sad}. `What "
        "is wrong?` asked {hero}."},
    {"share_meet", 1, "{+friend} was already sitting there. {friend.He} looked {+sad}. `What is "
        "the matter?` asked {hero}."},
    {"share_meet", 1, "On the way {hero.he} saw {+a friend.kind} on a bench. It was {friend}, "
        "and {friend.he} looked {+sad}. `Are you all right?` asked {hero}."},
    {"share_why", 1, "`I lost my lunch,` said {friend}. `My pocket has a hole in it.`"},
    {"share_why", 1, "`{+A animal} ate my lunch,` said {friend}. `It did not even leave a crumb.`"},
    {"share_why", 1, "`I am so hungry that my belly growls,` said {friend}. `And it is a long "
        "way home.`"},
    {"share_why", 1, "`I dropped my {+meal} in the mud,` said {friend}. `Now I have nothing.`"},
    {"share_why", 1, "`Everyone has something to eat but me,` said {friend}."},
    {"share_doubt", 2, ""},
    {"share_doubt", 1, "{hero} looked into the {container}. There were only {+number} {treat}, "
        "and {hero.he} was hungry too. "},
    {"share_doubt", 1, "For a moment {hero} wanted to hide the {container} and eat all the "
        "{treat} alone. Then {hero.he} looked at {friend} again. "},
    {"share_give", 2, "`Let us share,` <said> {hero} and put the {container} between them."},
    {"share_give", 1, "So {hero} gave {friend} half of the {treat}."},
    {"share_give", 1, "`Here, take as many {treat} as you like,` <said> {hero}."},
    {"share_give", 1, "Then {hero} counted the {treat}: one for {friend}, one for "
        "{hero.himself}, until the {container} was empty."},
    {"share_eat", 1, "They ate and talked until the sun was low."},
    {"share_eat", 1, "It was strange, but the {treat} tasted better than ever."},
    {"share_eat", 1, "{friend} was not {sad} anymore. `You are the best friend I have,` "
        "{friend.he} said."},
    {"share_eat", 1, "Soon both of them had full bellies and sticky fingers."},
    {"share_back", 2, "A week later, it was {hero} who had nothing to eat. Who came down the "
        "road? It was {friend}, with a plate of {+meal} for two."},
    {"share_back", 1, "The next morning, {+a gift} lay on the doorstep. `For {hero}, from "
        "{friend},` said the note."},
    {"share_back", 1, "Some days later, {hero} fell into the pond and got wet to the skin. "
        "{friend} ran up at once and gave {hero.him} a dry {+color} sweater."},
    {"share_end", 1, "{hero} had learned that a thing you share is not a thing you lose."},
    {"share_end", 1, "`When you give, you get,` said {hero.his} {elder}."},
    {"share_end", 1, "Now they share everything, even their secrets."},
    {"share_end", 1, "And from that day {hero} and {friend} always ate together."},

    /* ---- a storm ---- */
    {"tempest", 1, "<day> <storm_go> <storm_come> <storm_run> <storm_wait> <storm_calm> "
        "<storm_end>"},
    {"storm_go", 2, "{hero} and {hero.his} friend {+friend} were playing {+game} {+place.at}. "
        "<gear>They did not look at the sky."},
    {"storm_go", 1, "{hero} went for a walk with {hero.his} friend {+friend}. They were "
        "{+place.at} when the birds stopped singing."},
    {"storm_go", 1, "{hero} met {+friend} {+place.at}. `Let us play {+game},` said {friend}, and "
        "so they did."},
    {"storm_come", 2, "Suddenly it grew dark. {+storm.sign}. `A {storm}!` {friend} <cried>."},
    {"storm_come", 1, "All at once the light turned yellow. {+storm.sign}. A {storm} was coming, "
        "and it was coming fast."},
    {"storm_come", 1, "Then something happened that nobody had expected. {+storm.sign}. It was "
        "the biggest {storm} of the year."},
    {"storm_run", 2, "`Quick, to the {+shelter}!` {hero} <cried>. They held hands and ran."},
    {"storm_run", 1, "{friend} was too scared to move, so {hero} took {friend.his} {friend.hand} "
        "and pulled {friend.him} into {+a shelter}."},
    {"storm_run", 1, "They ran as fast as they could until they found {+a shelter}."},
    {"storm_wait", 2, "{+A animal} was hiding in the {shelter} too. It was shaking. {hero} made "
        "room for it, and soon all three were warm."},
    {"storm_wait", 1, "It was dark in the {shelter}. {friend} began to cry. `Let us talk about "
        "{hobby},` <said> {hero}, and {friend} listened and forgot to be afraid."},
    {"storm_wait", 1, "In the {shelter} they sang every song they knew. They sang so loud that "
        "they could not hear the {storm} at all."},
    {"storm_wait", 1, "Inside the {shelter}, {hero} counted slowly to one hundred, because "
        "{hero.his} {elder} always said that no {storm} can count that far."},
    {"storm_calm", 1, "{storm.calm}. A rainbow stood over the {place}."},
    {"storm_calm", 1, "At last it was over. {storm.calm}. The whole world looked new."},
    {"storm_calm", 1, "After a while they looked outside. {storm.calm}, and the sun came out."},
    {"storm_end", 2, "{hero.His} {elder} came running down the road and hugged them both. `I was "
        "so worried about you!` {elder.he} said. `We took care of each other,` said {friend}."},
    {"storm_end", 1, "`Were you not afraid?` asked {friend}. `I was,` said {hero}, `but less "
        "than I would have been alone.`"},
    {"storm_end", 1, "Hand in hand they walked home, and they stepped into every puddle on the "
        "way."},
    {"storm_end", 1, "`Next time we look at the sky first,` said {friend}. {hero} nodded."},

    /* ---- learning takes patience ---- */
    {"learn", 1, "<learn_want> <day> <learn_try> <learn_fail> <passing><learn_tip> <learn_work> "
        "<learn_can> <learn_end>"},
    {"learn_want", 2, "There was one thing {hero} could not do: {hero.he} could not {+skill}."},
    {"learn_want", 1, "But {hero} had a wish. {hero.He} wanted to learn to {+skill}."},
    {"learn_want", 1, "All the others could {+skill}, but {hero} could not."},
    {"learn_try", 2, "{hero} decided to try. <gear>{hero.He} took a deep breath and began."},
    {"learn_try", 1, "{hero} said, `Today I will {skill}!` and marched outside."},
    {"learn_try", 1, "{hero} got up early, so that nobody would be watching."},
    {"learn_fail", 2, "{skill.fail}. {hero.He} tried again. {skill.fail} once more. <sorrow>"},
    {"learn_fail", 1, "It did not go well. {skill.fail}. `I will never be able to {skill}!` "
        "{hero} <cried>."},
    {"learn_fail", 1, "{skill.fail}, and somebody laughed. {hero} felt {hero.his} ears grow hot."},
    {"learn_tip", 2, "{hero.His} {elder} had seen it all. `{skill.tip},` {elder.he} said. `That "
        "is how I learned it.`"},
    {"learn_tip", 1, "Just then {+friend} came by. `I know that trouble,` {friend.he} said. "
        "`{skill.tip}.`"},
    {"learn_tip", 1, "An old neighbor leaned over the fence. `May I tell you a secret about "
        "{skill.ing}?` he asked. `{skill.tip}.`"},
    {"learn_work", 2, "{hero} did just that. It was a little better. {hero.He} practiced for "
        "{+number} days, in the morning and in the evening."},
    {"learn_work", 1, "So {hero} tried {+number} more times, and every time it went a little "
        "better."},
    {"learn_work", 1, "It was not easy. After {+number} days {hero.he} had {+number} bruises, "
        "but {hero.he} did not give up."},
    {"learn_can", 2, "And then, one day, it worked! {hero} could {skill}! <joy>"},
    {"learn_can", 1, "On the next {+weekday}, {hero} called everybody together and showed them. "
        "`Look, I can {skill}!` Everyone clapped."},
    {"learn_can", 1, "Suddenly it was easy. {hero} was {skill.ing} as if {hero.he} had never "
        "done anything else. <joy>"},
    {"learn_end", 1, "`Everything is hard before it is easy,` said {hero.his} {elder}."},
    {"learn_end", 1, "A week later, {hero} was teaching a smaller child. `{skill.tip},` "
        "{hero.he} said kindly."},
    {"learn_end", 1, "{hero} was proud of {hero.himself}, and so was everybody else."},

    /* ---- a secret ---- */
    {"secret", 1, "<meet> <day> <secret_find> <secret_tell> <secret_go> <secret_open> "
        "<secret_keep>"},
    {"secret_find", 2, "{hero} was {+place.at} when {hero.he} found {+a find}."},
    {"secret_find", 1, "{hero} almost stepped on {+a find} {+place.at}. Where did it come from?"},
    {"secret_find", 1, "something odd lay {+place.at}. {hero} bent down. It was {+a find}."},
    {"secret_tell", 2, "{hero} ran to {friend}. `Can you keep a secret?` {hero.he} whispered. "
        "{friend} nodded, and {hero} told {friend.him} about the {find}."},
    {"secret_tell", 1, "`This must mean something,` thought {hero}, and {hero.he} went to get "
        "{friend}. `I have never seen such {a find},` {friend} said."},
    {"secret_tell", 1, "Just then {friend} came along. {friend.He} looked at the {find} for a "
        "long time. `I think it is the start of an adventure,` {friend.he} said."},
    {"secret_go", 2, "They searched the whole {time}. They asked {+a animal}, but it only "
        "blinked. At last they came to {a find.opens}."},
    {"secret_go", 1, "They went left, they went right, and they went in a circle. Then {friend} "
        "pointed. There was {a find.opens}."},
    {"secret_go", 1, "For {+number} days they looked for an answer. Then they found {a "
        "find.opens} not far from the {place}."},
    {"secret_open", 2, "{hero}'s heart beat fast. `You first,` said {friend}. And what did they "
        "see? It was {find.inside}!"},
    {"secret_open", 1, "It was not easy to get in, but they helped each other. There, in the "
        "quiet, was {find.inside}."},
    {"secret_open", 1, "`One, two, three!` they counted. Then they saw it: {find.inside}."},
    {"secret_keep", 2, "They promised not to tell anyone, only {hero.his} {elder}. `I know that "
        "place,` {elder.he} said and smiled. `When I was small, it was my secret too.`"},
    {"secret_keep", 1, "`Let us keep this for ourselves,` said {friend}, and they shook hands on "
        "it."},
    {"secret_keep", 1, "They put the {find} back where it had been, so that somebody else could "
        "find it one day."},
    {"secret_keep", 1, "<joy> A secret is twice as big when you have it together."},

    /* ---- an animal is helped ---- */
    {"rescue", 1, "<day> <rescue_hear> <rescue_see> <rescue_plan> <passing><rescue_free> "
        "<rescue_home> <rescue_thanks>"},
    {"rescue_hear", 2, "{hero} was walking {+place.at} when {hero.he} heard a small cry. "
        "<gear>`Who is there?` <asked> {hero}."},
    {"rescue_hear", 1, "{hero} was {+place.at}, busy with {hobby}, when something squeaked."},
    {"rescue_hear", 1, "{hero} and {hero.his} {elder} were {+place.at}. `Listen!` said {hero}. "
        "`Somebody needs help!`"},
    {"rescue_see", 2, "It was {+a animal}, {+trap}. It looked at {hero} with round, frightened "
        "eyes."},
    {"rescue_see", 1, "A little {+animal} was {+trap}. It could not get out."},
    {"rescue_see", 1, "Then {hero.he} saw it: {+a animal} was {+trap}. It was too tired to move."},
    {"rescue_plan", 2, "`Do not be afraid,` {hero} whispered. `I will help you.`"},
    {"rescue_plan", 1, "{hero} wanted to run and get {hero.his} {elder}, but there was no time."},
    {"rescue_plan", 1, "{hero} was a bit afraid that the {animal} would bite. But {hero.he} "
        "could not just walk away."},
    {"rescue_plan", 1, "`Poor thing,` <said> {hero}. `You must be hungry and {+sad}.`"},
    {"rescue_free", 2, "Very carefully, {hero} {trap.fix}. The {animal} was free!"},
    {"rescue_free", 1, "{hero} thought hard. Then {hero.he} {trap.fix}. It took a long time, but "
        "it worked."},
    {"rescue_free", 1, "So {hero} {trap.fix}, while the {animal} kept as still as a stone. Then "
        "it was free."},
    {"rescue_home", 2, "{hero} gave it some water and carried it back to its {animal.home}."},
    {"rescue_home", 1, "It was still weak, so {hero} took the {animal} home in {hero.his} "
        "{weather.gear} and fed it for {+number} days. Then it went back to its {animal.home}."},
    {"rescue_home", 1, "The {animal} shook itself, looked back once, and was gone in the "
        "direction of its {animal.home}."},
    {"rescue_thanks", 2, "The next morning, {+a gift} lay in front of the door. Nobody knew who "
        "had put it there, but {hero} had an idea."},
    {"rescue_thanks", 1, "`You have {+a trait} heart,` said {hero.his} {elder}."},
    {"rescue_thanks", 1, "Some weeks later, {hero} lost {hero.his} way {place.at}. Who showed "
        "{hero.him} the way home? It was the {animal}!"},
    {"rescue_thanks", 1, "Ever since then, the {animal} has come to visit on every {+weather} "
        "day. Once it even brought {+a gift}."},

    /* ---- a present is made ---- */
    {"present", 1, "<present_when> <present_think> <day> <present_make> <present_trouble> "
        "<passing><present_mend> <present_give> <present_end>"},
    {"present_when", 2, "Soon it would be the birthday of {hero.his} {elder}."},
    {"present_when", 1, "On {+weekday}, {hero.his} {elder} would have {elder.his} birthday."},
    {"present_when", 1, "{hero.His} {elder} had been ill for a week, and {hero} wanted to cheer "
        "{elder.him} up."},
    {"present_think", 2, "{hero} had no money for a present. `Then I will make one,` {hero.he} "
        "thought, and {hero.he} decided to make {+a craft}."},
    {"present_think", 1, "`What can I give {elder.him}?` {hero} <asked>. `I know! I will make "
        "{+a craft}!`"},
    {"present_think", 1, "{hero} opened the money box. There were only {+number} pennies inside, "
        "too few to buy anything. But {+a craft} could be made for nothing."},
    {"present_make", 2, "{hero} got {craft.from} and went to work."},
    {"present_make", 1, "{hero} closed the door and put up a sign: Keep out! On the table lay "
        "{craft.from}."},
    {"present_make", 1, "{hero} asked {hero.his} friend {+friend} for help. They needed "
        "{craft.from}, and it took them until noon to get it all."},
    {"present_trouble", 2, "Everything went well at first. But then {+mishap}. <sorrow>"},
    {"present_trouble", 1, "The {craft} was almost done, and then {+mishap}. `Oh no!` {hero} "
        "<cried>."},
    {"present_trouble", 1, "It was harder than {hero.he} had thought. First {hero.he} had to "
        "look for the scissors, and then {+mishap}."},
    {"present_mend", 2, "{hero} took a deep breath and started over. This time it went better, "
        "and {hero.he} painted it {+color}."},
    {"present_mend", 1, "But {hero} did not give up. A bit of {+color} paint covered the worst "
        "part, and now the {craft} looked even better."},
    {"present_mend", 1, "Then {hero.he} had an idea. Where it was spoiled, {hero.he} added {+a "
        "color} star."},
    {"present_give", 2, "When the time came, {hero} held out the {craft} with both {hero.hand}s. "
        "`I made it for you,` {hero.he} <said>."},
    {"present_give", 1, "At last {hero.his} {elder} opened the paper and saw the {color} "
        "{craft}. {elder.He} said nothing at all for a moment."},
    {"present_give", 1, "{hero} hid the {craft} under {hero.his} {elder}'s cup. What a surprise "
        "that was!"},
    {"present_end", 2, "`It is the best present of all,` said {hero.his} {elder}, `because you "
        "made it yourself.`"},
    {"present_end", 1, "{hero.His} {elder} had tears in {elder.his} eyes, but they were happy "
        "tears."},
    {"present_end", 1, "Even today the {color} {craft} has the best place in the {home}. <joy>"},

    /* ---- a toy breaks ---- */
    {"broken", 1, "<broken_have> <day> <broken_break> <broken_sad> <passing><broken_ask> "
        "<broken_fix> <broken_end>"},
    {"broken_have", 2, "{hero} had {+a color} {+toy}, and {hero.he} played with it every day."},
    {"broken_have", 1, "There was no toy that {hero} liked better than {hero.his} {+color} "
        "{+toy}."},
    {"broken_have", 1, "{hero} owned {+a look} {+color} {+toy} that had once belonged to "
        "{hero.his} {elder}."},
    {"broken_break", 2, "{hero} was playing with the {color} {toy}, and {toy.broke} {+cause}."},
    {"broken_break", 1, "{hero} let {hero.his} friend {+friend} play with the {toy}. {toy.Broke} "
        "{+cause}. `I am so sorry!` {friend} whispered."},
    {"broken_break", 1, "something terrible happened to the {toy}: {toy.broke} {+cause}."},
    {"broken_sad", 2, "<sorrow> `It will never be whole again,` {hero.he} said."},
    {"broken_sad", 1, "`My {toy}! My poor {color} {toy}!` {hero} <cried>."},
    {"broken_sad", 1, "{hero} wanted to throw the {toy} away, but {hero.he} could not do it."},
    {"broken_ask", 2, "{hero.His} {elder} picked up the pieces. `Let me see,` {elder.he} said. "
        "`All we need is {toy.fix}.`"},
    {"broken_ask", 1, "There was an old woman in the next street who could repair anything. She "
        "put on her glasses. `I have seen worse,` she said and took out {toy.fix}."},
    {"broken_ask", 1, "`What is broken can be mended,` said {hero.his} {elder}, and {elder.he} "
        "came back with {toy.fix}."},
    {"broken_fix", 2, "They worked all {time} long, and {hero} was allowed to help. Then the "
        "{toy} was as good as new."},
    {"broken_fix", 1, "{hero} held the {toy} still. It took only {+number} minutes, and it was "
        "done."},
    {"broken_fix", 1, "Bit by bit, the {color} {toy} became whole again. You had to look very "
        "closely to see where it had been broken."},
    {"broken_end", 2, "<joy> `Thank you!` {hero.he} said {+number} times."},
    {"broken_end", 1, "Now {hero} liked the {toy} even more than before, because {hero.he} knew "
        "how it worked."},
    {"broken_end", 1, "After that, {hero} repaired things for all {hero.his} friends. Most of "
        "the time, all {hero.he} needed was {toy.fix}."},

    /* ---- afraid of something that is nothing ---- */
    {"afraid", 1, "<meet> <afraid_when> <afraid_what> <afraid_hide> <afraid_go> <afraid_see> "
        "<afraid_laugh> <afraid_end>"},
    {"afraid_when", 2, "It was {+a weather} night, and {friend} was staying at the {home}. "
        "{hero} could not sleep."},
    {"afraid_when", 1, "One {+weather} night, when {friend} was visiting, the lamp went out and "
        "would not light again."},
    {"afraid_when", 1, "After {+a weather} day, {friend} came to sleep over. In the middle of "
        "the night {hero} woke up."},
    {"afraid_what", 2, "Suddenly there was {+fear}! `Did you notice that?` whispered {hero}."},
    {"afraid_what", 1, "What was that? There was {+fear}! {hero} pulled the blanket up to "
        "{hero.his} eyes."},
    {"afraid_what", 1, "Then {friend} sat up. `There is {+fear},` {friend.he} whispered."},
    {"afraid_hide", 2, "They both hid under the blanket and did not dare to breathe."},
    {"afraid_hide", 1, "`Maybe it is a monster,` said {friend}. `A big {+color} monster that "
        "eats {+treat}!`"},
    {"afraid_hide", 1, "{friend} wanted to call for {hero.his} {elder}, but no sound came out."},
    {"afraid_go", 2, "They waited, and nothing happened. Then {hero} took {friend.his} "
        "{friend.hand}. `Come,` {hero.he} said. `We will look together.`"},
    {"afraid_go", 1, "After a long time {hero} stood up. {hero.His} knees shook, but {hero.he} "
        "took one step, and then another."},
    {"afraid_go", 1, "`I am going to look,` <said> {hero}. {hero.He} took {+a treasure} for a "
        "weapon and went on tiptoe."},
    {"afraid_see", 2, "And what was it? It was only {fear.really}!"},
    {"afraid_see", 1, "There was no monster. There was {fear.really}, and nothing more."},
    {"afraid_see", 1, "{hero} began to giggle. `Look, {friend},` {hero.he} called. `It is just "
        "{fear.really}!`"},
    {"afraid_laugh", 2, "They laughed so loud that {hero.his} {elder} woke up and came with "
        "{+meal} for everybody."},
    {"afraid_laugh", 1, "{friend} laughed until {friend.he} got the hiccups."},
    {"afraid_laugh", 1, "<joy> Then they went back to bed, and soon they were asleep."},
    {"afraid_end", 1, "`Being brave,` said {hero.his} {elder} the next morning, `means being "
        "afraid and looking anyway.`"},
    {"afraid_end", 1, "Whenever {hero} was afraid after that, {hero.he} said to {hero.himself}: "
        "It is only {fear.really}."},
    {"afraid_end", 1, "The dark was still dark, but it was not full of monsters anymore."},

    /* ---- a race, and something better than winning ---- */
    {"race", 1, "<meet> <race_boast> <day> <race_start> <race_run> <race_fall> <race_help> "
        "<race_finish> <race_end>"},
    {"race_boast", 2, "`I am the fastest of all,` {friend} liked to say. `Nobody can beat me.`"},
    {"race_boast", 1, "Both of them could run like the wind, and both of them liked to win."},
    {"race_boast", 1, "One day there was a sign {+place.at}: Big race! The winner gets {+a "
        "prize}!"},
    {"race_start", 2, "{hero} and {friend} stood side by side. `First one to reach {+goal} "
        "wins!` said {friend}. `Ready, set, go!`"},
    {"race_start", 1, "everybody came to see the race from the house of {hero} to {+goal}. "
        "{hero.His} {elder} waved a flag, and off they went."},
    {"race_start", 1, "{hero} said to {friend}, `Let us race to {+goal}!` And they were already "
        "running."},
    {"race_run", 2, "At first {friend} was ahead. Then {hero} came closer, and closer still."},
    {"race_run", 1, "{hero} ran so fast that {hero.his} ears rang. {friend} was only {+number} "
        "steps behind."},
    {"race_run", 1, "They ran past {+a animal} and past {+a beast}. First one was ahead, then "
        "the other."},
    {"race_fall", 2, "Then {friend} {+trip}. `Ouch!` {friend.he} cried and did not get up."},
    {"race_fall", 1, "But what was that? {friend} {+trip} and fell down hard."},
    {"race_fall", 1, "They could see {goal} already. Just then {friend} {+trip}. `My foot!` "
        "{friend.he} cried."},
    {"race_help", 2, "{hero} could have won now. But {hero.he} stopped, turned around and ran "
        "back. `Put your arm around me,` {hero.he} said."},
    {"race_help", 1, "{hero} looked at {goal}. Then {hero.he} looked at {friend}. It was not "
        "hard to choose. {hero.He} went back and helped {friend.him} up."},
    {"race_help", 1, "`Go on without me,` said {friend}. `Never!` said {hero} and tied "
        "{hero.his} scarf around the sore foot."},
    {"race_finish", 2, "Step by step they walked to {goal}, and they got there at the very same "
        "moment."},
    {"race_finish", 1, "It took them {+number} times as long as planned, but they reached {goal} "
        "together."},
    {"race_finish", 1, "{+A animal} got to {goal} before them, and they had to laugh about that."},
    {"race_end", 2, "{hero.His} {elder} gave them {+a prize} to share. `Today there are two "
        "winners,` {elder.he} said."},
    {"race_end", 1, "`You could have won,` said {friend}. `I did win,` said {hero}. `I won a "
        "friend.`"},
    {"race_end", 1, "Since that day {friend} has never boasted again. <joy>"},

    /* ---- a seed takes its time ---- */
    {"garden", 1, "<day> <garden_get> <garden_plant> <garden_wait> <garden_thief> <garden_guard> "
        "<garden_grow> <garden_end>"},
    {"garden_get", 2, "{hero.his} {elder} gave {hero} a single {+seed} seed. `Keep it until "
        "spring,` {elder.he} said."},
    {"garden_get", 1, "{hero} found {+a seed} seed in an old {+color} jar and kept it for the "
        "spring."},
    {"garden_get", 1, "a traveler gave {hero} {+a seed} seed. `It needs water and time,` he "
        "said, `and mostly time.`"},
    {"garden_plant", 2, "When the ground was soft, {hero} dug a hole, put the {seed} seed in and "
        "covered it with earth. `Sleep well,` <said> {hero}."},
    {"garden_plant", 1, "In spring, {hero} found a good spot beside the wall. {hero.He} planted "
        "the {seed} seed and gave it a cup of water."},
    {"garden_plant", 1, "As soon as the swallows were back, {hero} borrowed a spoon from the "
        "kitchen and planted the {seed} seed in the yard."},
    {"garden_wait", 2, "Every day {hero.he} looked, and every day there was nothing. `When will "
        "it grow?` {hero} <asked>. `When it is ready,` said {hero.his} {elder}."},
    {"garden_wait", 1, "{hero} waited for {+number} days. {hero.He} sang to it. {hero.He} even "
        "told it about {hobby}. Then a green tip came out of the ground!"},
    {"garden_wait", 1, "It is hard to wait. {hero} wanted to dig the seed up and look, but "
        "{hero.his} {elder} shook {elder.his} head."},
    {"garden_thief", 2, "When the first leaves had come, {+a animal} sat in the bed and nibbled "
        "at them."},
    {"garden_thief", 1, "One morning half of the plant was gone! The tracks of {+a animal} led "
        "to the fence."},
    {"garden_thief", 1, "But somebody else liked {seed} plants too. It was a hungry {+animal}."},
    {"garden_guard", 2, "{hero} was {+sad}, but not for long. {hero.He} built a scarecrow and "
        "gave it {hero.his} own {weather.gear}."},
    {"garden_guard", 1, "{hero} put a low fence of sticks around the bed and hung {+number} "
        "spoons on it, which rang in the wind."},
    {"garden_guard", 1, "`You are hungry too,` <said> {hero}, and {hero.he} planted some lettuce "
        "just for the {animal}. After that, it left the other bed alone."},
    {"garden_grow", 2, "The plant grew as high as {hero.his} knees, then as high as {hero.his} "
        "nose. By the end of summer it was the finest {seed} plant for miles."},
    {"garden_grow", 1, "Rain came, and sun came, and one day everything was ripe. <joy>"},
    {"garden_grow", 1, "Weeks went by. And then, on a {+weekday}, the harvest could begin."},
    {"garden_end", 2, "They made {seed.dish}, a whole pot full, and asked all the neighbors to "
        "come."},
    {"garden_end", 1, "{hero} and {hero.his} {elder} had {seed.dish} for {+number} days, and it "
        "was so good that they did not mind."},
    {"garden_end", 1, "And {hero} kept one seed in a little {+color} box, for the next spring."},

    /* ---- baking, with a mistake ---- */
    {"bake", 1, "<day> <bake_plan> <bake_mix> <bake_slip> <bake_taste> <bake_word> <bake_again> "
        "<bake_end>"},
    {"bake_plan", 2, "{hero} wanted to surprise {hero.his} {elder} with {+a cake}."},
    {"bake_plan", 1, "{hero} and {hero.his} friend {+friend} were hungry for {+a cake}. So they "
        "put on two aprons."},
    {"bake_plan", 1, "{hero} read in an old book how to make {+a cake}. It sounded easy."},
    {"bake_mix", 2, "{hero.He} stirred and stirred until there was flour on the table, on the "
        "chair and on {hero.his} nose."},
    {"bake_mix", 1, "Two eggs fell on the floor, but {+number} more were left. The dough was "
        "soft and yellow."},
    {"bake_mix", 1, "Soon every {+color} bowl in the kitchen was full of something sticky."},
    {"bake_slip", 2, "But {hero} was dreaming of {hobby} and {+slip}."},
    {"bake_slip", 1, "Just at that moment somebody knocked at the door, and so {hero} {+slip}."},
    {"bake_slip", 1, "In all the hurry, {hero} {+slip} and did not even notice."},
    {"bake_taste", 2, "When the {cake} came to the table, {slip.result}. <sorrow>"},
    {"bake_taste", 1, "{hero.His} {elder} was the first to try. Oh dear! The {cake} looked fine, "
        "but {slip.result}."},
    {"bake_taste", 1, "What {a cake}! To be honest, {slip.result}. Even {+a animal} at the "
        "window would not eat it."},
    {"bake_word", 2, "{hero.His} {elder} did not scold. `Do you know what I did with my first "
        "{cake}?` {elder.he} asked. `I {slip}, just like you!`"},
    {"bake_word", 1, "`A mistake is a teacher,` said {hero.his} {elder}. `What did this one "
        "teach you?`"},
    {"bake_word", 1, "`I am sorry,` {hero} <said>. `Do not be sorry,` said {hero.his} {elder}. "
        "`Be hungry! We will make another one.`"},
    {"bake_again", 2, "So they began again, and this time they read every line of the recipe out "
        "loud."},
    {"bake_again", 1, "The second {cake} rose and rose until it was as big as a hat. It smelled "
        "wonderful."},
    {"bake_again", 1, "They swept the floor, washed the bowls and started over. {hero} did it "
        "all {hero.himself}, and {hero.his} {elder} only watched."},
    {"bake_end", 2, "Now the {cake} was perfect. They ate {+number} slices and left one for the "
        "mouse."},
    {"bake_end", 1, "At last they sat by the window and ate warm {cake}. <joy>"},
    {"bake_end", 1, "The whole street could smell it, and soon {+number} neighbors stood at the "
        "door with a fork in their hands."},

    /* ---- telling the truth ---- */
    {"truth", 1, "<day> <truth_play> <truth_crash> <truth_hide> <truth_ask> <truth_lie> "
        "<truth_night> <truth_tell> <truth_end>"},
    {"truth_play", 2, "{hero} was playing with {+a color} ball in the house, although {hero.his} "
        "{elder} had said not to."},
    {"truth_play", 1, "{hero} was bored, so {hero.he} danced through all the rooms with closed "
        "eyes."},
    {"truth_play", 1, "{hero} and {hero.his} friend {+friend} were playing {+game} in the living "
        "room."},
    {"truth_crash", 2, "Crash! The {+fragile} fell down and broke into {+number} pieces."},
    {"truth_crash", 1, "There was a loud noise. On the floor lay the {+fragile}, and it was "
        "broken."},
    {"truth_crash", 1, "Then {hero} bumped into the table, and the {+fragile} went over the "
        "edge. It had been the pride of {hero.his} {elder}."},
    {"truth_hide", 2, "{hero}'s heart stood still. Quickly {hero.he} hid the pieces {+cover}."},
    {"truth_hide", 1, "What now? {hero} pushed everything {+cover} and tried to look as if "
        "nothing had happened."},
    {"truth_ask", 2, "At dinner there was {+meal}. `Where is the {fragile}?` asked {hero.his} "
        "{elder}."},
    {"truth_ask", 1, "{hero.His} {elder} came home and looked around. `Something is missing,` "
        "{elder.he} said. `Have you seen the {fragile}?`"},
    {"truth_lie", 2, "`Maybe {+a animal} came in and took it,` <said> {hero}. {hero.His} face "
        "was as hot as a stove."},
    {"truth_lie", 1, "`I do not know,` {hero} <said> and looked at {hero.his} feet."},
    {"truth_lie", 1, "`It must have been the wind,` {hero} <said>. {hero.His} voice was very "
        "small."},
    {"truth_night", 2, "That evening not even {hobby} was fun. There was a heavy stone in "
        "{hero.his} belly, and it would not go away."},
    {"truth_night", 1, "{hero} went to bed early and felt {+sad}. The pieces {cover} seemed to "
        "call {hero.his} name."},
    {"truth_night", 1, "Nobody said another word about it, but {hero} could not think of "
        "anything else."},
    {"truth_tell", 2, "At last {hero} got up. `It was me,` {hero.he} said. `I broke the "
        "{fragile}, and I told a lie. I am sorry.`"},
    {"truth_tell", 1, "Then {hero} took the pieces of the {fragile} and put them in front of "
        "{hero.his} {elder}. {hero.He} told {elder.him} the truth."},
    {"truth_end", 2, "{hero.His} {elder} was quiet for a while. `I liked the {fragile},` "
        "{elder.he} said. `But I like the truth more.` And {elder.he} hugged {hero.him}."},
    {"truth_end", 1, "`I knew it all along,` said {hero.his} {elder}, `and I hoped that you "
        "would tell me.` The stone in {hero.his} belly was gone."},
    {"truth_end", 1, "Together they glued the {fragile}. You could still see the cracks, but "
        "{hero.his} {elder} said that they were the best part."},

    /* ---- a new child next door ---- */
    {"neighbor", 1, "<day> {hero} <new_come> {+a friend.kind}. <new_shy> <new_idea> <new_knock> "
        "<passing><new_play> <new_twist><new_end>"},
    {"new_come", 2, "saw a big truck in front of the next house. Out came {+number} chairs, {+a "
        "color} table and"},
    {"new_come", 1, "looked over the fence. Somebody new had moved in next door:"},
    {"new_come", 1, "was {+place.at} and met somebody {hero.he} had never seen before. It was"},
    {"new_shy", 2, "`Hello, I am {hero},` said {hero}. The new {friend.kind} looked at the "
        "ground and did not say a word."},
    {"new_shy", 1, "{hero} waved. But the {friend.kind} turned around and was gone."},
    {"new_shy", 1, "{hero} smiled, and got no smile back. `Maybe I have done something wrong,` "
        "thought {hero}."},
    {"new_idea", 2, "`It is not easy to be new,` said {hero.his} {elder}. `You could bring some "
        "{+treat}.`"},
    {"new_idea", 1, "{hero} thought about it while {hobby}. Then {hero.he} packed {+a container} "
        "of {+treat}."},
    {"new_idea", 1, "`When I was new here,` said {hero.his} {elder}, `somebody brought me "
        "{+treat}. I have never forgotten it.`"},
    {"new_knock", 2, "So {hero} knocked at the door. `These {treat} are for you,` {hero.he} "
        "said. `What is your name?` It took a moment. `{friend},` said the {friend.kind}."},
    {"new_knock", 1, "{hero} put the {treat} on the steps, rang the bell and waited behind the "
        "hedge. The door opened. `Thank you, whoever you are,` said a soft voice. `My name is "
        "{friend}.`"},
    {"new_play", 2, "`Do you know how to play {+game}?` asked {hero}. {friend} did, and "
        "{friend.he} was very good at it."},
    {"new_play", 1, "Soon they were playing {+game}, and {friend} laughed for the first time."},
    {"new_play", 1, "{friend} did not know how to play {+game}, so {hero} showed {friend.him}. "
        "They played until it was dark."},
    {"new_twist", 2, ""},
    {"new_twist", 1, "`I am not shy,` {friend} said later. `I only need some time.` "},
    {"new_twist", 1, "It turned out that {friend} liked {hobby} just as much as {hero} did. "},
    {"new_twist", 1, "And when {+a animal} ran across the yard, they both tried to catch it and "
        "fell into the same puddle. "},
    {"new_end", 2, "Now there is a gap in the fence between the two houses, just wide enough for "
        "a friend."},
    {"new_end", 1, "A month later, another new child came to town. This time it was {friend} who "
        "knocked, with {+a container} of {treat}."},
    {"new_end", 1, "`Yesterday I had no friend here,` said {friend}, `and today I have the best "
        "one.` <joy>"},

    /* ---- a boat sails off ---- */
    {"sail", 1, "<meet> <day> <sail_build> <sail_go> <sail_stuck> <sail_try> <sail_help> "
        "<sail_back> <sail_end>"},
    {"sail_build", 2, "{hero} built {+a vessel} out of {vessel.from}. {hero.He} painted {+a "
        "color} line on it."},
    {"sail_build", 1, "{hero} and {friend} wanted to go to sea, so they made {+a vessel} out of "
        "{vessel.from}."},
    {"sail_build", 1, "{hero} showed {friend} {+a look} {+vessel}. It was made of {vessel.from}."},
    {"sail_go", 2, "They carried it to the pond and gave it a push. The {vessel} danced on the "
        "water."},
    {"sail_go", 1, "`What is its name?` asked {friend}. `It is called The {+Color} {+Animal},` "
        "said {hero}. Then they let it go."},
    {"sail_go", 1, "`Sail around the world,` {hero} told the {vessel}, `and be back for dinner!`"},
    {"sail_stuck", 2, "All went well until a puff of wind came. It drove the {vessel} away, and "
        "it got stuck {+stuck}."},
    {"sail_stuck", 1, "But it did not sail around the world. It sailed {+number} feet and "
        "stopped {+stuck}."},
    {"sail_stuck", 1, "A wave came and turned it around, and the next moment it hung {+stuck}."},
    {"sail_try", 2, "{hero} threw small stones to move it. {friend} blew as hard as {friend.he} "
        "could. Nothing helped. <sorrow>"},
    {"sail_try", 1, "They tried to reach it with a stick, but the stick was too short."},
    {"sail_try", 1, "`I will get it!` {hero} <cried>, and {hero.he} was in the water up to "
        "{hero.his} knees. It was too deep."},
    {"sail_help", 2, "Then {+a swimmer} came swimming by. It looked at the {vessel}, gave it a "
        "little push, and it was free!"},
    {"sail_help", 1, "{friend} had an idea. {friend.He} tied a string to {+a treasure}, threw it "
        "behind the {vessel} and pulled. It came loose!"},
    {"sail_help", 1, "An old man with a fishing rod had been watching them. He cast his line, "
        "and on the first try he caught the {vessel}."},
    {"sail_back", 2, "Slowly the {vessel} came back to the shore. It was wet, but it was whole."},
    {"sail_back", 1, "{hero} lifted it out of the water. `Good captain,` {hero.he} said to "
        "{friend}, and {friend} bowed."},
    {"sail_end", 2, "<joy> `Tomorrow we build a bigger one,` said {friend}."},
    {"sail_end", 1, "On the way home they tied a long {+color} string to it. A ship needs "
        "somebody who holds on to it."},
    {"sail_end", 1, "`We were a good crew,` said {hero}. `The best,` said {friend}."},

    {NULL, 0, NULL},
};
