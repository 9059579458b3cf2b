/* data/story_words: the words of the stories and the variables that hold them.
 *
 * A word carries what must agree with it later: a name its pronouns, the weather what one wears
 * in it and what one hears at night, a skill how it goes wrong. Articles follow from the first
 * letter, so no word here begins with a vowel letter that is spoken as a consonant ("unicorn")
 * or the other way round.
 */
#include "data/story_grammar.h"

const aa__story_list_row aa__story_lists[] = {
    {"heroes", "name|kind|he|him|his|himself|hand",
     "=little boy|he|him|his|himself|hand;Tom;Ben;Sam;Max;Leo;Jack;Finn;Oscar;Noah;Theo;Hugo;"
     "Milo;Eli;Adam;Luke;Owen;Felix;Ravi;Omar;Kenji;Mateo;Diego;Arlo;Jonah;Caleb;Otto;Emil;Anton;"
     "Peter;Henry;Toby;Nico;Sven;Ali;Kofi;Louie;=little girl|she|her|her|herself|hand;Lily;Mia;"
     "Anna;Ella;Ruby;Rosie;Lucy;Emma;Zoe;Nora;Ivy;Clara;Sophie;Maya;Lena;Alice;Hazel;Daisy;Molly;"
     "Poppy;Grace;Amira;Yuki;Priya;Elena;Freya;Greta;Hanna;Ida;June;Kira;Lola;Nina;Olive;Tilda;"
     "Wanda;=he|him|his|himself|paw;Pip|small mouse;Bruno|brown bear cub;Rusty|young fox;"
     "Pebble|baby otter;Biscuit|brown puppy;Tumble|panda cub;Acorn|red squirrel;"
     "Marble|striped kitten;Bramble|gray badger;=she|her|her|herself|paw;Mossy|little hedgehog;"
     "Clover|small rabbit;Willow|gray kitten;Juniper|little squirrel;Button|tiny mouse;"
     "Maple|young raccoon;Nutmeg|white hamster"},
    {"elders", "name|he|him|his",
     "=she|her|her;mom;grandma;aunt;big sister;=he|him|his;dad;grandpa;uncle;big brother"},
    {"homes", "name",
     "small house by the sea;cottage near the forest;tall house on a hill;"
     "yellow house in the village;little house by the river;farmhouse with a red roof;"
     "house next to the bakery;cabin in the mountains;small apartment in the town;"
     "old mill beside the stream;house with a green door;lighthouse by the bay;"
     "round house under a big oak;white cottage at the edge of the meadow;"
     "flat above the book shop;houseboat on the canal;stone house near the bridge;"
     "brick house beside the railway;wooden house among the pines;"
     "cozy house at the end of the lane"},
    {"weathers", "adj|gear|night|look",
     "sunny|straw hat|the crickets in the grass|The sky was blue from end to end;"
     "rainy|yellow raincoat|the rain on the roof|Rain ran down the windows;"
     "windy|thick jacket|the wind in the trees|The wind shook all the leaves;"
     "snowy|woolly hat|the snow sliding off the roof|Snow lay on every roof;"
     "foggy|bright scarf|the foghorn far away|Fog hid the tops of the trees;"
     "cloudy|blue sweater|the owl in the yard|Gray clouds hung over the hills;"
     "frosty|thick coat|the ice cracking on the pond|Ice sparkled on every leaf;"
     "warm|light shirt|the frogs by the pond|Bees hummed in the flowers;"
     "chilly|red scarf|the fire in the stove|The air smelled of smoke and apples;"
     "hot|sun hat|the leaves stirring in the dark|The air was hot and still;"
     "misty|warm vest|the drops falling from the trees|Mist lay over the fields;"
     "breezy|green jacket|the wind chimes by the door|White clouds raced across the sky"},
    {"times", "name|meal",
     "morning|breakfast;afternoon|lunch"},
    {"days", "name",
     "Monday;Tuesday;Wednesday;Thursday;Friday;Saturday;Sunday"},
    {"hobbies", "name",
     "painting pictures;climbing trees;counting the stars;singing songs;reading books;"
     "digging holes;watching birds;building towers;telling jokes;picking flowers;drawing maps;"
     "collecting stones;playing the drum;dancing in the kitchen;making up stories;"
     "looking for bugs;baking bread;jumping in puddles;feeding the ducks;folding paper birds;"
     "playing hide and seek;chasing butterflies;solving puzzles;growing beans;whistling tunes;"
     "flying kites;watching the trains;blowing bubbles"},
    {"traits", "name",
     "kind;brave;curious;shy;clever;cheerful;gentle;stubborn;quiet;playful;careful;dreamy;polite;"
     "patient;silly;funny;busy;friendly;honest;helpful"},
    {"sads", "name",
     "sad;upset;worried;unhappy;miserable;gloomy;sorry;blue"},
    {"glads", "name",
     "happy;glad;proud;cheerful;excited;delighted;pleased;merry"},
    {"looks", "name",
     "little;big;old;new;lovely;pretty;fine;funny;plain;special;tiny;beautiful;strange;simple;"
     "splendid"},
    {"colors", "name",
     "red;blue;green;yellow;orange;purple;pink;white;black;brown;gray;silver;golden;striped;"
     "spotted;checkered"},
    {"treasures", "name",
     "ball;kite;teddy bear;whistle;drum;scarf;lantern;bell;book;blanket;backpack;spoon;button;"
     "marble;top;yo-yo;ring;mitten;cap;cup;flute;puppet;toy boat;toy train;toy car;toy horse;"
     "paintbrush;pencil box;music box;magnet;watch;feather;shell;necklace;bracelet;pocket mirror;"
     "compass;toy rabbit;toy duck;toy lion;rag doll;robot;balloon;umbrella;bag;purse;key ring;"
     "jump rope;magic wand;crown;tambourine;harmonica;rocket;toy tractor;snow globe;flag;badge;"
     "notebook;telescope;pinwheel"},
    {"nooks", "name|why",
     "under the bed|It must have rolled there in the night;"
     "behind the sofa|It must have slipped down between the pillows;"
     "in the laundry basket|It had been swept up with the dirty socks;"
     "on top of the wardrobe|Somebody tall had put it there to keep it safe;"
     "inside an old boot|A mouse must have dragged it there;"
     "behind the curtain|It had been sitting on the window sill all along;"
     "under the stairs|The cat must have pushed it there;"
     "in the kitchen drawer|It had been put away with the forks;"
     "behind the flower pots|It had been left there after lunch;"
     "in the toy chest|It was right at the bottom, where nobody had looked;"
     "under the big chair|The puppy must have hidden it there;"
     "in the garden shed|It had been left there with the tools;"
     "beside the bathtub|It had been waiting there since bath time;"
     "under a pile of coats|It had fallen out of a pocket;"
     "in the bread box|Nobody ever found out how it got there;"
     "behind the clock|It had been put there for just a moment and then forgotten"},
    {"junk", "name",
     "lost sock;dusty spider web;wooden spoon;broken pencil;chewed bone;bent fork;green apple;"
     "rubber duck;paper plane;long ribbon;rusty nail;dead leaf;cookie crumb;shiny coin;"
     "cherry stone;old newspaper;playing card;bottle cap;ball of yarn;empty jar;birthday candle;"
     "clothes pin;sleepy moth;door key"},
    {"safes", "name",
     "on a shelf by the bed;in a box with a lid;in the same place every night;"
     "on a hook by the door;next to the pillow;in the top drawer;where it could always be seen;"
     "inside a soft bag"},
    {"places", "name|at",
     "park|in the park;beach|on the beach;forest|in the forest;meadow|in the meadow;"
     "market|at the market;pond|by the pond;river|by the river;playground|on the playground;"
     "old bridge|near the old bridge;library|outside the library;hill|on the hill;"
     "lake|by the lake;orchard|in the orchard;village square|in the village square;"
     "train station|at the train station;bakery|outside the bakery;harbor|at the harbor;"
     "farm|on the farm;garden|in the garden;school yard|in the school yard;"
     "windmill|near the windmill;castle ruins|at the castle ruins;fountain|by the fountain;"
     "corn field|at the edge of the corn field;waterfall|near the waterfall;zoo|outside the zoo"},
    {"animals", "name|home",
     "rabbit|burrow;squirrel|tree;hedgehog|pile of leaves;duckling|pond;frog|pond;turtle|lake;"
     "robin|nest;field mouse|hole;mole|tunnel;kitten|barn;chick|hen house;sparrow|nest;"
     "chipmunk|log;lizard|sunny wall;toad|mossy stone;bat|attic;crab|rock pool;gosling|reeds;"
     "fawn|thicket;lamb|flock;piglet|pen;fox cub|den;raccoon|hollow tree;otter pup|river bank;"
     "beaver|dam;badger|den;crow|tall pine;pigeon|tower;swallow|barn;hare|tall grass;owl|old oak;"
     "puppy|yard;goat|stable;bear cub|cave;woodpecker|birch tree;seagull|cliff;magpie|hedge;"
     "snail|wet wall;newt|ditch;dormouse|bush"},
    {"beasts", "name",
     "cow;horse;goose;swan;donkey;pony;rooster;hen;sheep;cat;dog;pig;turkey;peacock;pheasant;"
     "camel;stork"},
    {"swimmers", "name",
     "duck;otter;beaver;turtle;swan;goose;frog;big fish;water rat;seal;heron;coot"},
    {"traps", "name|fix",
     "caught in an old net|cut the strings one by one;"
     "stuck under a fallen branch|lifted the branch just high enough;"
     "trapped in a deep hole|let down a rope made of two scarves;"
     "tangled in a long string|unwound the string as slowly as possible;"
     "shut in a wooden box|pulled the nails out of the lid;"
     "stuck in thick mud|laid a flat board across the mud;"
     "lost under a thorn bush|bent the thorns aside with a stick;"
     "sitting on a rock in the middle of a stream|built a bridge out of stones;"
     "caught behind a wire fence|dug a little tunnel under the wire;"
     "stuck in an old bucket|tipped the bucket gently on its side;"
     "trapped between two rocks|rolled one of the rocks away;"
     "stuck in a hollow log|made the hole in the log bigger"},
    {"gifts", "name",
     "smooth stone;ripe apple;blue feather;four-leaf clover;pine cone;round shell;golden leaf;"
     "bunch of berries;walnut;shiny acorn;piece of honeycomb;wild rose;piece of sea glass;"
     "silver coin;curly twig;daisy chain;red pebble;handful of nuts;tiny bell;paper heart;"
     "hazelnut;chestnut;ripe plum"},
    {"containers", "name",
     "basket;bag;box;bowl;tin;plate;jar;paper bag"},
    {"treats", "name",
     "cookies;cherries;plums;sandwiches;muffins;pancakes;strawberries;grapes;pretzels;waffles;"
     "nuts;pears;apple slices;honey cakes;sesame rolls;raisin buns;lemon tarts;cheese balls;"
     "dumplings;figs;dates;blueberries;carrot sticks;ginger snaps;peanuts;tangerines;raspberries;"
     "biscuits"},
    {"meals", "name",
     "tomato soup;noodle soup;mashed potato;fried rice;vegetable stew;cheese toast;apple pie;"
     "corn bread;mushroom soup;bean soup;bread and honey;hot cocoa;rice pudding;pea soup;"
     "pasta with butter;warm milk and toast;cherry pie;fish and rice;lentil stew;onion soup;"
     "carrot soup;oatmeal with plums;scrambled egg;baked apple;sweet porridge;cabbage stew"},
    {"storms", "name|sign|calm",
     "thunderstorm|A white flash split the sky|The thunder rolled away behind the hills;"
     "hailstorm|Balls of ice began to jump on the ground|"
     "The ice melted into a thousand small mirrors;downpour|"
     "Fat drops fell, first one, then a hundred|The last drops fell and the clouds broke open;"
     "gale|Hats and leaves flew through the air|The wind lay down like a tired dog;cloudburst|"
     "A gray curtain of water came over the fields|The water found its way back to the stream;"
     "whirlwind|Dust and straw danced in circles|The straw sank to the ground and lay still"},
    {"shelters", "name",
     "hollow tree;small cave;old barn;empty hut;bus stop;shed;covered bridge;hay loft;boat house;"
     "fisherman's cabin;stone arch;big doorway;ruined tower;market tent"},
    {"skills", "name|ing|fail|tip",
     "ride a bike|riding a bike|The bike wobbled and fell over|Look ahead and not at your feet;"
     "swim|swimming|There was a big splash and a mouth full of water|"
     "Kick slowly and keep breathing;"
     "whistle|whistling|Nothing came out but air|Make your lips round and blow softly;"
     "skate|skating|The ice was hard and very slippery|Bend your knees and lean forward;"
     "tie a bow|tying bows|It turned into one big knot|Make two loops and cross them;"
     "juggle|juggling|All three balls landed on the floor|Start with one ball, then take two;"
     "fly a kite|flying a kite|The kite dived straight into a bush|Run with the wind behind you;"
     "play the flute|playing the flute|It squeaked like an old door|"
     "Use less breath and more patience;climb a rope|climbing the rope|"
     "The rope swung, and the ground came up fast|Hold on with your feet as well;"
     "row a boat|rowing|The boat went round and round|Pull both oars at the same time;"
     "knit a scarf|knitting|The wool ran away across the floor|Count every stitch out loud;"
     "turn a cartwheel|turning cartwheels|It ended in a heap on the grass|"
     "Push off hard and keep your back straight;"
     "dive|diving|It was a very loud belly flop|Tuck in your chin and stretch out long;"
     "catch a ball|catching|The ball bounced away every time|Keep your eyes on the ball;"
     "draw a horse|drawing horses|It looked more like a potato|Draw the big shapes first;"
     "walk on stilts|walking on stilts|The stilts slid apart|Take small steps and do not stop;"
     "jump rope|jumping rope|The rope got caught again and again|Jump when you hear the rope tap;"
     "spin a top|spinning the top|The top fell over with a click|Pull the string straight and fast;"
     "read a map|reading maps|The path led right back to the front door|"
     "Turn the map until north is north;"
     "bake bread|baking bread|The loaf was as hard as a brick|Let the dough rest under a cloth;"
     "ski|skiing|Both skis went different ways|Make the shape of a pizza slice"},
    {"numbers", "name",
     "two;three;four;five;six;seven;eight;nine;ten"},
    {"finds", "name|opens|inside",
     "rusty key|locked trunk|a bundle of old letters;torn map|hollow tree|a tin full of marbles;"
     "small brass handle|door behind the ivy|a garden full of roses;"
     "bottle with a note in it|cave behind the rocks|a little boat with a blue sail;"
     "row of white stones|gap in the hedge|a well with a silver bell;"
     "chalk arrow|loose board in a fence|a nest with five blue eggs;"
     "strange footprint|gate behind a barn|a family of deer;"
     "trail of feathers|narrow tunnel|a room made of green leaves;"
     "piece of red string|tiny hut|a table set for two;"
     "carved wooden arrow|box under a bench|a music box that still played;"
     "puzzle piece|painted chest|the rest of the puzzle;"
     "glowing pebble|crack in a rock|a cave full of sparkling stones;"
     "page from a diary|trap door|a shelf of wonderful books;"
     "line of tiny flags|hole in a wall|a playground for mice"},
    {"crafts", "name|from",
     "card|colored paper and glue;necklace|dried beans and a string;"
     "picture frame|small shells and wood;bird house|six boards and ten nails;"
     "candle|beeswax and a bit of string;book mark|pressed flowers;"
     "paper lantern|thin paper and four sticks;flower pot|river clay;"
     "sock puppet|an old sock and two buttons;pillow|soft cloth and feathers;basket|willow twigs;"
     "wind chime|old spoons and a ring of wire;pencil cup|an empty can and bright paint;"
     "hat|newspaper and a blue ribbon;bracelet|thread in three colors;"
     "calendar|twelve drawings of the garden;mobile|sticks and paper stars"},
    {"mishaps", "name",
     "the cat walked right across it;it fell on the floor;the paint would not dry;"
     "one corner came loose;a cup of tea spilled on it;a gust of wind blew half of it away;"
     "there was not enough string;the first try fell apart;the glue stuck to everything else;"
     "the baby next door sat on it"},
    {"breakables", "name|broke|fix",
     "wooden train|one wheel came off|a drop of glue and a new pin;"
     "kite|the paper tore|a patch of strong paper;"
     "music box|the little key snapped|a key from an old clock;"
     "rag doll|one arm came loose|a needle and red thread;"
     "toy boat|the mast broke in two|a straight new stick;"
     "drum|the skin split|a piece of soft leather;"
     "rocking horse|one leg cracked|two screws and some wood glue;"
     "teddy bear|one eye fell off|a shiny black button;toy truck|an axle bent|a small hammer;"
     "puppet|the strings got into a knot|four new strings;"
     "doll house|the door fell off|a tiny brass hinge;robot|one arm stopped moving|a drop of oil;"
     "scooter|the handle came off|a big wrench;sled|one runner bent|a strong pair of pliers;"
     "toy crane|the hook dropped off|a bit of fishing line;"
     "paper dragon|the tail came off|needle, thread and gold paper"},
    {"causes", "name",
     "when it hit the wall;when it fell off the table;after a bump on the stairs;"
     "when the dog ran into it;in the middle of a game;just before bedtime;"
     "with a sad little sound;and nobody knew why"},
    {"fears", "name|really",
     "a tall shadow on the wall|a coat on a hook;"
     "something shining in the corner|the brass knob of the dresser;"
     "a scratching noise behind the wall|a family of mice building a nest;"
     "a long arm tapping on the window|a branch of the apple tree;"
     "a low growl under the bed|the cat, who was snoring;"
     "a white ghost in the yard|a sheet on the clothes line;"
     "a heavy step on the roof|a ripe pear falling from the tree;"
     "a dark hump in the hall|a sack of potatoes;"
     "a whisper in the chimney|the wind playing with the ashes;"
     "a pale face outside the window|the full moon behind a cloud;"
     "a dragon breathing in the kitchen|the kettle on the stove;"
     "a slow knocking in the attic|a loose shutter in the wind"},
    {"goals", "name",
     "the old oak;the bridge;the mill;the red barn;the big rock;the garden gate;the flag pole;"
     "the far end of the field;the fountain;the boat house;the haystack;the scarecrow;"
     "the lamp post;the last house of the village;the white fence"},
    {"prizes", "name",
     "blue ribbon;jar of honey;paper crown;basket of plums;medal made of tin foil;chocolate coin;"
     "bag of nuts;bunch of flowers;big round cheese;golden bell;cherry cake;red balloon"},
    {"trips", "name",
     "slipped on some wet leaves;tripped over a root;stepped into a hole;bumped into a fence;"
     "stepped on a thorn;slid into a puddle;stumbled over a stone;got tangled in the tall grass"},
    {"seeds", "name|dish",
     "pumpkin|pumpkin soup;carrot|carrot cake;bean|bean stew;tomato|tomato soup;pea|pea soup;"
     "radish|radish salad;cucumber|cucumber sandwiches;beet|beet soup;melon|fruit salad;"
     "corn|hot corn with butter;strawberry|strawberry jam;cabbage|cabbage rolls;onion|onion pie;"
     "turnip|turnip stew;pepper|stuffed peppers;spinach|spinach pie;leek|leek soup;"
     "sunflower|bread with sunflower seeds"},
    {"cakes", "name",
     "apple pie;lemon cake;chocolate cake;honey cake;cherry pie;carrot cake;nut cake;"
     "poppy seed cake;plum cake;birthday cake;banana cake;blueberry pie;cheese cake;ginger cake;"
     "pear tart"},
    {"slips", "name|result",
     "put in salt and no sugar|it tasted like the sea;forgot the eggs|it fell apart like sand;"
     "left it in the oven too long|it was as black as coal;"
     "forgot the baking powder|it was as flat as a plate;"
     "poured in too much milk|it was as thin as soup;"
     "took it out too soon|the middle was still wet;"
     "mixed in pepper by mistake|it made everybody sneeze;"
     "dropped it on the floor|it was nothing but crumbs"},
    {"fragiles", "name",
     "blue vase;cup with the roses;lamp;mirror;clay pot;picture frame;teapot;sugar bowl;"
     "honey jar;flower pot;painted plate;glass bird;cookie jar;milk jug;china dog"},
    {"covers", "name",
     "under the rug;behind the stove;in the wood box;under the sofa;behind the door;"
     "in the waste basket;under a cushion;at the back of the closet"},
    {"games", "name",
     "tag;hide and seek;hopscotch;marbles;catch;leapfrog;pirates;kings and queens;checkers;cards;"
     "soccer;dominoes;hide the spoon;follow the leader;blind man's buff"},
    {"vessels", "name|from",
     "raft|three logs and some rope;paper boat|a big sheet of newspaper;"
     "little ship|a milk carton;bark boat|a curl of birch bark;walnut boat|half a walnut shell;"
     "sailboat|a plank and a handkerchief;leaf boat|a broad green leaf and a twig"},
    {"sayings", "name",
     "slow feet also get there;a good word costs nothing;every day is a new page;"
     "two can carry what one cannot;even the moon starts small;a warm heart needs no stove;"
     "you find more when you look together;who asks gets an answer;small steps make long roads;"
     "a smile opens every door;the best stories begin at home;after every night comes a morning;"
     "a friend is the best map;even a big tree was once a seed;"
     "brave is what you are when your knees shake;what you give away comes back;"
     "the sky is the same for everyone;patience is a quiet kind of strength;"
     "today is a good day to begin;nobody is too small to help"},
    {"stucks", "name",
     "on a lily pad;in the reeds;between two stones;under a low branch;on a sand bank;"
     "in the middle of the pond;behind the water wheel;against the old dock"},
    {NULL, NULL, NULL},
};

const aa__story_var_row aa__story_vars[] = {
    {"hero", "heroes", NULL}, {"friend", "heroes", "hero"}, {"elder", "elders", NULL},
    {"home", "homes", NULL}, {"weather", "weathers", NULL}, {"time", "times", NULL},
    {"weekday", "days", NULL}, {"hobby", "hobbies", NULL}, {"trait", "traits", NULL},
    {"sad", "sads", NULL}, {"glad", "glads", NULL}, {"look", "looks", NULL},
    {"color", "colors", NULL}, {"treasure", "treasures", NULL}, {"nook1", "nooks", NULL},
    {"nook2", "nooks", "nook1"}, {"nook3", "nooks", "nook1 nook2"}, {"junk1", "junk", NULL},
    {"junk2", "junk", "junk1"}, {"safe", "safes", NULL}, {"place", "places", NULL},
    {"animal", "animals", NULL}, {"beast", "beasts", NULL}, {"trap", "traps", NULL},
    {"gift", "gifts", NULL}, {"container", "containers", NULL}, {"treat", "treats", NULL},
    {"meal", "meals", NULL}, {"storm", "storms", NULL}, {"shelter", "shelters", NULL},
    {"skill", "skills", NULL}, {"number", "numbers", NULL}, {"find", "finds", NULL},
    {"craft", "crafts", NULL}, {"mishap", "mishaps", NULL}, {"toy", "breakables", NULL},
    {"cause", "causes", NULL}, {"fear", "fears", NULL}, {"goal", "goals", NULL},
    {"prize", "prizes", NULL}, {"trip", "trips", NULL}, {"seed", "seeds", NULL},
    {"cake", "cakes", NULL}, {"slip", "slips", NULL}, {"fragile", "fragiles", NULL},
    {"cover", "covers", NULL}, {"game", "games", NULL}, {"vessel", "vessels", NULL},
    {"stuck", "stucks", NULL}, {"swimmer", "swimmers", NULL}, {"saying", "sayings", NULL},
    {NULL, NULL, NULL},
};
