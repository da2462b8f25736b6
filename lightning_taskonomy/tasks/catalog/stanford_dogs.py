"""Stanford Dogs (Khosla et al., 2011) with the points of StanfordExtra (Biggs et al., 2020)."""

from lightning_taskonomy.tasks.base import Family, Task, TaskKind
from lightning_taskonomy.tasks.catalog.objects import keypoints

POINTS = (
    "left_front_paw", "left_front_middle_joint", "left_front_top", "left_rear_paw", "left_rear_middle_joint",
    "left_rear_top", "right_front_paw", "right_front_middle_joint", "right_front_top", "right_rear_paw",
    "right_rear_middle_joint", "right_rear_top", "tail_start", "tail_end", "left_ear_base", "right_ear_base", "nose",
    "chin", "left_ear_tip", "right_ear_tip",
)  # fmt: skip
"""The first 20 of StanfordExtra's 24 (``keypoint_definitions.csv``): the others, eyes, withers and throat, are of the
animal pose data set and marked in no image. They are the paper's 20 (its authors' reader takes the same)."""
MIRROR = (6, 7, 8, 9, 10, 11, 0, 1, 2, 3, 4, 5, 12, 13, 15, 14, 16, 17, 19, 18)
"""The place of each point in a mirrored image."""
SIGMAS = (
    0.062, 0.072, 0.079, 0.089, 0.087, 0.107, 0.062, 0.072, 0.079, 0.089, 0.087, 0.107, 0.107, 0.107, 0.035, 0.035,
    0.026, 0.026, 0.035, 0.035,
)  # fmt: skip
"""Neither data set nor paper gives any: here those of COCO's points that are alike, a front paw as a wrist, a rear one
as an ankle, the tops of the legs as shoulder and hip, the tail as a hip, the chin as the nose."""

_BREEDS = """
02085620 Chihuahua; 02085782 Japanese spaniel; 02085936 Maltese dog; 02086079 Pekinese; 02086240 Shih-Tzu; 02086646
Blenheim spaniel; 02086910 papillon; 02087046 toy terrier; 02087394 Rhodesian ridgeback; 02088094 Afghan hound;
02088238 basset; 02088364 beagle; 02088466 bloodhound; 02088632 bluetick; 02089078 black-and-tan coonhound; 02089867
Walker hound; 02089973 English foxhound; 02090379 redbone; 02090622 borzoi; 02090721 Irish wolfhound; 02091032 Italian
greyhound; 02091134 whippet; 02091244 Ibizan hound; 02091467 Norwegian elkhound; 02091635 otterhound; 02091831 Saluki;
02092002 Scottish deerhound; 02092339 Weimaraner; 02093256 Staffordshire bullterrier; 02093428 American Staffordshire
terrier; 02093647 Bedlington terrier; 02093754 Border terrier; 02093859 Kerry blue terrier; 02093991 Irish terrier;
02094114 Norfolk terrier; 02094258 Norwich terrier; 02094433 Yorkshire terrier; 02095314 wire-haired fox terrier;
02095570 Lakeland terrier; 02095889 Sealyham terrier; 02096051 Airedale; 02096177 cairn; 02096294 Australian terrier;
02096437 Dandie Dinmont; 02096585 Boston bull; 02097047 miniature schnauzer; 02097130 giant schnauzer; 02097209
standard schnauzer; 02097298 Scotch terrier; 02097474 Tibetan terrier; 02097658 silky terrier; 02098105 soft-coated
wheaten terrier; 02098286 West Highland white terrier; 02098413 Lhasa; 02099267 flat-coated retriever; 02099429 curly-
coated retriever; 02099601 golden retriever; 02099712 Labrador retriever; 02099849 Chesapeake Bay retriever; 02100236
German short-haired pointer; 02100583 vizsla; 02100735 English setter; 02100877 Irish setter; 02101006 Gordon setter;
02101388 Brittany spaniel; 02101556 clumber; 02102040 English springer; 02102177 Welsh springer spaniel; 02102318
cocker spaniel; 02102480 Sussex spaniel; 02102973 Irish water spaniel; 02104029 kuvasz; 02104365 schipperke; 02105056
groenendael; 02105162 malinois; 02105251 briard; 02105412 kelpie; 02105505 komondor; 02105641 Old English sheepdog;
02105855 Shetland sheepdog; 02106030 collie; 02106166 Border collie; 02106382 Bouvier des Flandres; 02106550
Rottweiler; 02106662 German shepherd; 02107142 Doberman; 02107312 miniature pinscher; 02107574 Greater Swiss Mountain
dog; 02107683 Bernese mountain dog; 02107908 Appenzeller; 02108000 EntleBucher; 02108089 boxer; 02108422 bull mastiff;
02108551 Tibetan mastiff; 02108915 French bulldog; 02109047 Great Dane; 02109525 Saint Bernard; 02109961 Eskimo dog;
02110063 malamute; 02110185 Siberian husky; 02110627 affenpinscher; 02110806 basenji; 02110958 pug; 02111129 Leonberg;
02111277 Newfoundland; 02111500 Great Pyrenees; 02111889 Samoyed; 02112018 Pomeranian; 02112137 chow; 02112350
keeshond; 02112706 Brabancon griffon; 02113023 Pembroke; 02113186 Cardigan; 02113624 toy poodle; 02113712 miniature
poodle; 02113799 standard poodle; 02113978 Mexican hairless; 02115641 dingo; 02115913 dhole; 02116738 African hunting
dog
"""
BREEDS = {
    f"n{number}": name for number, name in (one.split(maxsplit=1) for one in _BREEDS.replace("\n", " ").split(";"))
}
"""The 120 breeds by ImageNet's number, which begins the name of their folder, in the order of the lists' classes."""

KEYPOINTS = keypoints("keypoints", POINTS, MIRROR, SIGMAS, class_name="dog")
BREED = Task("breed", TaskKind.CLASSIFICATION, "breed", 120, family=Family.SEMANTIC, class_names=tuple(BREEDS.values()))
