shared |User user=Tom time_of_day=morning
|Action article=politics 
|Action article=sports 
|Action article=music 
|Action article=food 
0:0.0:0.14285714498588012 |Action article=finance 
|Action article=health 
|Action article=camping 

shared |User user=Anna time_of_day=morning
0:0.0:0.14285713008471937 |Action article=politics 
|Action article=sports 
|Action article=music 
|Action article=food 
|Action article=finance 
|Action article=health 
|Action article=camping 

shared |User user=Anna time_of_day=morning
|Action article=politics 
|Action article=sports 
|Action article=music 
|Action article=food 
0:0.0:0.14285714498588012 |Action article=finance 
|Action article=health 
|Action article=camping 

shared |User user=Tom time_of_day=afternoon
|Action article=politics 
0:0.0:0.14285714498588012 |Action article=sports 
|Action article=music 
|Action article=food 
|Action article=finance 
|Action article=health 
|Action article=camping 

shared |User user=Tom time_of_day=morning
|Action article=politics 
|Action article=sports 
|Action article=music 
|Action article=food 
|Action article=finance 
0:0.0:0.14285714498588012 |Action article=health 
|Action article=camping 

shared |User user=Tom time_of_day=morning
|Action article=politics 
|Action article=sports 
0:0.0:0.14285714498588012 |Action article=music 
|Action article=food 
|Action article=finance 
|Action article=health 
|Action article=camping 

shared |User user=Tom time_of_day=afternoon
|Action article=politics 
|Action article=sports 
|Action article=music 
0:0.0:0.14285714498588012 |Action article=food 
|Action article=finance 
|Action article=health 
|Action article=camping 

shared |User user=Anna time_of_day=afternoon
|Action article=politics 
|Action article=sports 
|Action article=music 
0:0.0:0.14285714498588012 |Action article=food 
|Action article=finance 
|Action article=health 
|Action article=camping 

shared |User user=Tom time_of_day=morning
|Action article=politics 
0:0.0:0.14285714498588012 |Action article=sports 
|Action article=music 
|Action article=food 
|Action article=finance 
|Action article=health 
|Action article=camping 

shared |User user=Anna time_of_day=afternoon
|Action article=politics 
0:0.0:0.14285714498588012 |Action article=sports 
|Action article=music 
|Action article=food 
|Action article=finance 
|Action article=health 
|Action article=camping 

shared |User user=Tom time_of_day=morning
|Action article=politics 
|Action article=sports 
|Action article=music 
|Action article=food 
0:0.0:0.14285714498588012 |Action article=finance 
|Action article=health 
|Action article=camping 

shared |User user=Anna time_of_day=afternoon
|Action article=politics 
0:0.0:0.14285714498588012 |Action article=sports 
|Action article=music 
|Action article=food 
|Action article=finance 
|Action article=health 
|Action article=camping 

shared |User user=Anna time_of_day=morning
|Action article=politics 
|Action article=sports 
0:0.0:0.14285714498588012 |Action article=music 
|Action article=food 
|Action article=finance 
|Action article=health 
|Action article=camping 

shared |User user=Anna time_of_day=afternoon
|Action article=politics 
|Action article=sports 
0:0.0:0.14285714498588012 |Action article=music 
|Action article=food 
|Action article=finance 
|Action article=health 
|Action article=camping 

shared |User user=Anna time_of_day=morning
|Action article=politics 
|Action article=sports 
|Action article=music 
0:0.0:0.14285714498588012 |Action article=food 
|Action article=finance 
|Action article=health 
|Action article=camping 

shared |User user=Anna time_of_day=afternoon
|Action article=politics 
|Action article=sports 
|Action article=music 
0:0.0:0.14285714498588012 |Action article=food 
|Action article=finance 
|Action article=health 
|Action article=camping 

shared |User user=Tom time_of_day=afternoon
0:0.0:0.14285713008471937 |Action article=politics 
|Action article=sports 
|Action article=music 
|Action article=food 
|Action article=finance 
|Action article=health 
|Action article=camping 

shared |User user=Tom time_of_day=morning
|Action article=politics 
|Action article=sports 
|Action article=music 
|Action article=food 
|Action article=finance 
|Action article=health 
0:0.0:0.14285714498588012 |Action article=camping 

shared |User user=Tom time_of_day=afternoon
|Action article=politics 
|Action article=sports 
|Action article=music 
|Action article=food 
|Action article=finance 
0:0.0:0.14285714498588012 |Action article=health 
|Action article=camping 

shared |User user=Tom time_of_day=afternoon
|Action article=politics 
|Action article=sports 
|Action article=music 
|Action article=food 
0:0.0:0.14285714498588012 |Action article=finance 
|Action article=health 
|Action article=camping 

